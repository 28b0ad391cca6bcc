-- Take up to %(limit)s due rows for one worker, priority 1 first, oldest first within a priority; those too that
-- are due within %(ahead)s, which the worker holds until then; not those with a concurrency key, which is asked for at
-- the instant.
-- Promises: no row is handed to two workers; each lease has a fence larger than every earlier one; a row with a
-- concurrency key is leased only with a number under that key, taken here or held from before. Rows whose key had
-- no free number come back as `refused`, without a lease, for turning away.
-- Locks: FOR UPDATE SKIP LOCKED on exactly the rows taken, so competing workers never wait for each other; the new
-- numbers in the order of (key, slot): who asks for the same number at the same moment waits for the other's commit
-- and is refused. Fence: drawn after the row lock, in the UPDATE. Expired leases are the reaper's, not ours: taking
-- them here would leave no row of the attempt that was lost. One index range per priority (LATERAL) instead of
-- one scan: rows that lie ready for the next minute would otherwise be waded through by every lease.
WITH picked AS MATERIALIZED (
  SELECT d.*
  FROM generate_series(1, 9) AS p(priority)
  CROSS JOIN LATERAL (
    SELECT w.id, w.slot, w.fence IS NOT NULL AS leased_before, w.priority, w.run_at,
           w.concurrency_key AS key, w.concurrency_limit AS most, w.key_slot
    FROM duework.due_work w
    WHERE w.slot >= 0 AND NOT w.waiting AND w.priority = p.priority
      AND w.run_at <= coalesce(%(now)s::timestamptz, now()) + %(ahead)s
      AND (w.concurrency_key IS NULL OR w.run_at <= coalesce(%(now)s::timestamptz, now()))
      AND w.locked_until IS NULL
      AND (w.expires_at IS NULL OR w.expires_at > coalesce(%(now)s::timestamptz, now()) OR w.attempt > 0)
    ORDER BY w.run_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
  ) d
  LIMIT %(limit)s
), asking AS MATERIALIZED (
  SELECT p.id, p.key, p.most, row_number() OVER (PARTITION BY p.key ORDER BY p.priority, p.run_at, p.id) AS turn
  FROM picked p WHERE p.key IS NOT NULL AND p.key_slot IS NULL
), free AS (
  SELECT k.key, f.number, row_number() OVER (PARTITION BY k.key ORDER BY f.number) AS turn
  FROM (SELECT a.key, max(a.most) AS most, count(*) AS many FROM asking a GROUP BY a.key) k
  CROSS JOIN LATERAL (
    SELECT g.number FROM generate_series(0, k.most - 1) AS g(number)
    WHERE NOT EXISTS (SELECT FROM duework.concurrency_slot s WHERE s.key = k.key AND s.slot = g.number)
    ORDER BY g.number LIMIT k.many
  ) f
), taken AS (
  INSERT INTO duework.concurrency_slot (key, slot, run_id)
  SELECT a.key, f.number, a.id FROM asking a JOIN free f USING (key, turn) WHERE f.number < a.most
  ORDER BY a.key, f.number
  ON CONFLICT (key, slot) DO NOTHING
  RETURNING run_id, slot
), decided AS (
  SELECT p.id, p.slot, p.leased_before, coalesce(p.key_slot, t.slot) AS key_slot,
         p.key IS NULL OR p.key_slot IS NOT NULL OR t.slot IS NOT NULL AS admitted
  FROM picked p LEFT JOIN taken t ON t.run_id = p.id
)
UPDATE duework.due_work w
SET locked_until = CASE WHEN d.admitted THEN coalesce(%(now)s::timestamptz, now()) + %(lease)s END,
    locked_by = CASE WHEN d.admitted THEN %(worker)s END,
    attempt = CASE WHEN d.admitted THEN w.attempt + 1 ELSE w.attempt END,
    fence = CASE WHEN d.admitted THEN nextval('duework.fence') ELSE w.fence END,
    key_slot = d.key_slot
FROM decided d
WHERE w.id = d.id AND w.slot + 0 = d.slot
RETURNING w.id AS run_id, w.slot, w.task_id, w.task_version, w.trigger, w.scheduled_for, w.run_at, w.priority,
          w.attempt, w.fence, w.params, w.event, w.state, w.created_by, d.leased_before, w.concurrency_key,
          w.concurrency_limit, w.on_conflict, NOT d.admitted AS refused,
          coalesce(%(now)s::timestamptz, clock_timestamp()) AS leased_at
