-- Turn rows whose catch-up window has passed unstarted into `missed` occurrences.
-- Promises: an instant that nobody started in time is in the ledger as missed, with its run_id, and never
-- runs later; a row that was ever leased is not touched. Rows that wait for their concurrency key are among them, by
-- an index of their own. Locks: FOR UPDATE SKIP LOCKED on the rows removed.
-- Fence: only unleased rows; a lease that comes first wins.
WITH ready AS MATERIALIZED (
  SELECT w.id, w.slot
  FROM duework.due_work w
  WHERE w.slot >= 0 AND w.expires_at < coalesce(%(now)s::timestamptz, now())
    AND w.run_at < coalesce(%(now)s::timestamptz, now())
    AND w.locked_until IS NULL AND w.attempt = 0 AND w.state IS NULL
  LIMIT %(limit)s
  FOR UPDATE SKIP LOCKED
), waiting AS MATERIALIZED (
  SELECT w.id, w.slot
  FROM duework.due_work w
  WHERE w.slot = -1 AND w.waiting AND w.expires_at < coalesce(%(now)s::timestamptz, now())
  ORDER BY w.expires_at
  LIMIT %(limit)s
  FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM duework.due_work w USING (SELECT * FROM ready UNION ALL SELECT * FROM waiting) l
  WHERE w.id = l.id AND w.slot + 0 = l.slot
  RETURNING w.id, w.task_id, w.scheduled_for, w.waiting, w.concurrency_key, w.key_slot, w.linked
), told AS (
  UPDATE duework.occurrence o
  SET disposition = 'missed',
      reason = CASE WHEN g.waiting THEN 'its concurrency key was taken until its catch-up window ended'
                    ELSE 'no worker started it before its catch-up window ended' END
  FROM gone g
  WHERE o.task_id = g.task_id AND o.scheduled_for = g.scheduled_for
)
SELECT g.id AS run_id, g.task_id, g.scheduled_for, g.concurrency_key, g.key_slot, g.linked FROM gone g
