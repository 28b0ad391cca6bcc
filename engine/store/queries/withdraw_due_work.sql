-- Take back what a task's schedule put into the queue and nobody has started: an edit, a pause, a cancel.
-- Promises: the occurrences go with their rows, so that an edit which brings an instant back is not
-- suppressed by its own ledger; started runs are left alone. Locks: the rows removed, waited for: whoever holds one
-- leases it, and then it runs, or only moves it to another slot (SQLSTATE 40001, tried again), and then it goes. Holders
-- never wait for the task, whose lock the caller has. Fence: only unleased rows that were never started.
WITH mine AS MATERIALIZED (
  SELECT w.id, w.slot
  FROM duework.occurrence o JOIN duework.due_work w ON w.id = o.run_id
  WHERE o.task_id = %(task_id)s AND o.disposition = 'scheduled'
    AND o.scheduled_for > coalesce(%(now)s::timestamptz, now())
    AND w.locked_until IS NULL AND w.attempt = 0
  FOR UPDATE OF w
), gone AS (
  DELETE FROM duework.due_work w USING mine m WHERE w.id = m.id AND w.slot + 0 = m.slot
  RETURNING w.id, w.task_id, w.scheduled_for, w.concurrency_key, w.key_slot, w.linked
)
DELETE FROM duework.occurrence o USING gone g
WHERE o.task_id = g.task_id AND o.scheduled_for = g.scheduled_for
RETURNING o.scheduled_for, g.id AS run_id, g.concurrency_key, g.key_slot, g.linked
