-- Numbers whose run is gone without having freed them: nothing in duework leaves one, somebody's DELETE may.
-- Promises: none of a run that is queued or under way; none that was taken within the last minute, so that a run
-- which came after this snapshot is not mistaken for a gone one. Locks: FOR UPDATE SKIP LOCKED on the numbers found.
-- Fence: the absence of the due_work row.
SELECT s.key, s.slot, s.run_id
FROM duework.concurrency_slot s
WHERE s.taken_at < now() - interval '1 minute'
  AND NOT EXISTS (SELECT FROM duework.due_work w WHERE w.id = s.run_id)
LIMIT 1000
FOR UPDATE OF s SKIP LOCKED
