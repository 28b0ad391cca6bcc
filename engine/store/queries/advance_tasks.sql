-- Store each task's next instant after a tick, or why it has none. Promises: only active tasks have one. Locks: held since
-- lock_due_tasks. Fence: the row lock.
UPDATE duework.task t
SET next_run = i.next_run, tzdata_version = %(tzdata_version)s, schedule_error = i.schedule_error
FROM jsonb_to_recordset(%(rows)s::jsonb) AS i(task_id uuid, next_run timestamptz, schedule_error text)
WHERE t.id = i.task_id AND t.status = 'active'
