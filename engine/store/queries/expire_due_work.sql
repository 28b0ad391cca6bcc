-- Turn rows whose catch-up window has passed unstarted into `missed` occurrences.
-- Promises: an instant that nobody started in time is in the ledger as missed, with its run_id, and never
-- runs later; a row that was ever leased is not touched. Locks: FOR UPDATE SKIP LOCKED on the rows removed.
-- Fence: only unleased rows; a lease that comes first wins.
WITH late AS MATERIALIZED (
  SELECT w.id, w.slot
  FROM duework.due_work w
  WHERE w.slot >= 0 AND w.expires_at < coalesce(%(now)s::timestamptz, now())
    AND w.run_at < coalesce(%(now)s::timestamptz, now())
    AND w.locked_until IS NULL AND w.attempt = 0 AND w.state IS NULL
  LIMIT %(limit)s
  FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM duework.due_work w USING late l
  WHERE w.id = l.id AND w.slot = l.slot
  RETURNING w.id, w.task_id, w.scheduled_for
)
UPDATE duework.occurrence o
SET disposition = 'missed', reason = 'no worker started it before its catch-up window ended'
FROM gone g
WHERE o.task_id = g.task_id AND o.scheduled_for = g.scheduled_for
RETURNING o.task_id, o.scheduled_for, o.run_id
