-- Move rows that are due within a minute from the far-future partition to the writing slot.
-- Promises: a row is moved once and stays itself (same id, same fence). Locks: FOR UPDATE SKIP LOCKED on the
-- rows moved. Fence: unchanged; rows in the far future are never leased. Rows
-- that wait for their concurrency key stay where they are: wake_waiting brings them back.
WITH near AS MATERIALIZED (
  SELECT d.id
  FROM generate_series(1, 9) AS p(priority)
  CROSS JOIN LATERAL (
    SELECT w.id
    FROM duework.due_work w
    WHERE w.slot = -1 AND NOT w.waiting AND w.priority = p.priority
      AND w.run_at <= coalesce(%(now)s::timestamptz, now()) + interval '1 minute'
    ORDER BY w.run_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
  ) d
)
UPDATE duework.due_work w
SET slot = (SELECT s.slot FROM duework.due_work_slot s WHERE s.state = 'writing')
FROM near WHERE w.id = near.id AND w.slot = -1
RETURNING w.id AS run_id
