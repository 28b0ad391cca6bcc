-- Hold still the runs that are about to get an answer, before their waits are written.
-- Promises: a run that is parking at this moment has parked, or parks after our commit and sees the answer then.
-- Locks: the due_work rows, the youngest first: an end holds the child's row when it comes for the parent's, and a
-- child is younger. Fence: the lock.
SELECT w.id AS run_id
FROM duework.due_work w
WHERE w.id = ANY (%(run_ids)s::uuid[])
ORDER BY w.id DESC
FOR NO KEY UPDATE
