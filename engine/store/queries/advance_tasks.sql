-- Store each task's next instant after a tick. Promises: only active tasks have one. Locks: held since
-- lock_due_tasks. Fence: the row lock.
UPDATE duework.task t
SET next_run = i.next_run, tzdata_version = %(tzdata_version)s
FROM unnest(%(task_id)s::uuid[], %(next_run)s::timestamptz[]) AS i(task_id, next_run)
WHERE t.id = i.task_id AND t.status = 'active'
