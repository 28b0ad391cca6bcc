-- Forget the checkpoints of settled runs. Promises: only of runs that are no longer queued, so a stale
-- worker cannot take a live run's state away. Locks: the rows deleted. Fence: the absence of the due_work row.
DELETE FROM duework.checkpoint c
WHERE c.run_id = ANY(%(run_ids)s::uuid[])
  AND NOT EXISTS (SELECT FROM duework.due_work w WHERE w.id = c.run_id)
