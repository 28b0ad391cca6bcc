-- The live runs of a task's backfills, or of one of them. Promises: begun or not. Locks: none. Fence: none is needed.
SELECT w.id AS run_id
FROM duework.due_work w
WHERE w.task_id = %(task_id)s AND w.trigger = 'backfill'
  AND w.parent_run_id = coalesce(%(backfill_id)s::uuid, w.parent_run_id)
ORDER BY w.id
