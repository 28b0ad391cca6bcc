-- Take back a run that was asked for and that no worker has looked at.
-- Promises: it never runs. Locks: the row; a worker that looks at it just now is waited for, and then there is nothing to
-- take back. Fence: the deletion.
DELETE FROM duework.request q
WHERE q.kind = 'run_now' AND q.id = %(run_id)s
RETURNING q.id AS run_id, q.task_id
