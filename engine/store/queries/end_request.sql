-- Write into history a run that was asked for and never begun: refused, canceled, or another stands for it.
-- Promises: one row without an attempt and without what the gate has not seen. Locks: none. Fence: the request's deletion,
-- in the same transaction.
INSERT INTO duework.task_run (run_id, attempt, task_id, task_version, trigger, status, final, finished_at, error)
SELECT %(run_id)s, 0, t.id, t.version, 'run_now', %(status)s, true, now(), %(error)s
FROM duework.task t WHERE t.id = %(task_id)s
