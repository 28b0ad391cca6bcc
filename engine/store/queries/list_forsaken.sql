-- Runs that somebody waits for and that have ended without telling: their worker died between two statements of one end,
-- or was of a version that knows no waits. Promises: none that is live, or whose end is not committed. Locks: none:
-- waits.ended takes them. Fence: the absence of the due_work row.
SELECT DISTINCT v.child_run_id AS run_id, true AS linked
FROM duework.wait v
WHERE v.child_run_id IS NOT NULL AND v.resolved_at IS NULL
  AND NOT EXISTS (SELECT FROM duework.due_work w WHERE w.id = v.child_run_id)
LIMIT 500
