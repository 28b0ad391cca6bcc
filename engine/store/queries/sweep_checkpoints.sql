-- Drop checkpoints that a crash left between a settle and its clean-up. Promises: only of runs whose steps
-- are in history. Locks: the rows deleted. Fence: the absence of the due_work row.
DELETE FROM duework.checkpoint c
WHERE c.created_at < now() - interval '10 minutes'
  AND NOT EXISTS (SELECT FROM duework.due_work w WHERE w.id = c.run_id)
  AND EXISTS (SELECT FROM duework.task_run r WHERE r.run_id = c.run_id AND r.final)
