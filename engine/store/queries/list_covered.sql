-- The instants of a task in [start, until) that have succeeded, whatever caused the run, or are in the queue.
-- Promises: one snapshot, so that a run which settles at this moment is in one of the two. Of work, only rows of the
-- ledger and those that repeat the past name an instant. Locks: none; the caller holds the task's row, so that no
-- other backfill is decided meanwhile. Fence: none is needed to read.
SELECT r.scheduled_for, 'succeeded' AS reason
FROM duework.task_run r
WHERE r.task_id = %(task_id)s AND r.final AND r.success AND r.finished_at >= %(start)s
  AND r.scheduled_for >= %(start)s AND r.scheduled_for < %(until)s
UNION
SELECT o.scheduled_for, 'queued'
FROM duework.occurrence o JOIN duework.due_work w ON w.id = o.run_id
WHERE o.task_id = %(task_id)s AND o.disposition = 'scheduled'
  AND o.scheduled_for >= %(start)s AND o.scheduled_for < %(until)s
UNION
SELECT w.scheduled_for, 'queued'
FROM duework.due_work w
WHERE w.task_id = %(task_id)s AND w.trigger IN ('backfill', 'retry')
  AND w.scheduled_for >= %(start)s AND w.scheduled_for < %(until)s
