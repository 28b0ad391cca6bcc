-- Hold still the runs that wait for the end of these.
-- Promises: all of them: who begins to wait for a run holds that run's row until the commit, and the caller has just
-- deleted it. Locks and fence: those of lock_runs.
SELECT w.id AS run_id
FROM duework.due_work w
WHERE w.id IN (SELECT v.run_id FROM duework.wait v
               WHERE v.child_run_id = ANY (%(run_ids)s::uuid[]) AND v.resolved_at IS NULL)
ORDER BY w.id DESC
FOR NO KEY UPDATE
