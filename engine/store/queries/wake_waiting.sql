-- Pass on the numbers that ended runs held: each to the next row that waits for its key, or to nobody.
-- Promises: a number that is passed on is never free in between; the row that gets it becomes leasable with this
-- commit, in the order of leases; a number that nobody waits for is free. Answers with the rows woken, and with the
-- numbers for which the search has to go on (`run_id` null): rows with smaller limits stood in the way.
-- Locks: the numbers, held since lock_slots; FOR UPDATE SKIP LOCKED on the rows woken. Fence: the number must still
-- be that of the run which ended, or be taken by nobody.
WITH freed AS MATERIALIZED (
  SELECT f.key, f.slot, f.run_id, row_number() OVER (PARTITION BY f.key ORDER BY f.slot) AS turn
  FROM unnest(%(keys)s::text[], %(slots)s::integer[], %(run_ids)s::uuid[]) AS f(key, slot, run_id)
), keys AS (
  SELECT f.key, count(*) AS many, min(f.slot) AS lowest FROM freed f GROUP BY f.key
), next AS MATERIALIZED (
  SELECT k.key, k.many, d.id, d.most, row_number() OVER (PARTITION BY k.key ORDER BY d.most, d.priority, d.run_at) AS turn
  FROM keys k
  CROSS JOIN LATERAL (
    SELECT w.id, w.concurrency_limit AS most, w.priority, w.run_at
    FROM duework.due_work w
    WHERE w.slot = -1 AND w.waiting AND w.concurrency_key = k.key AND w.concurrency_limit > k.lowest
      AND (w.expires_at IS NULL OR w.expires_at > coalesce(%(now)s::timestamptz, now()))
    ORDER BY w.priority, w.run_at
    LIMIT k.many
    FOR UPDATE SKIP LOCKED
  ) d
), passed AS (
  INSERT INTO duework.concurrency_slot AS s (key, slot, run_id)
  SELECT f.key, f.slot, n.id FROM freed f JOIN next n USING (key, turn) WHERE f.slot < n.most
  ORDER BY f.key, f.slot
  ON CONFLICT (key, slot) DO UPDATE SET run_id = excluded.run_id, taken_at = now()
    WHERE s.run_id = ANY (%(run_ids)s::uuid[])
  RETURNING s.key, s.slot, s.run_id
), woken AS (
  UPDATE duework.due_work w
  SET waiting = false, key_slot = p.slot,
      slot = (SELECT c.slot FROM duework.due_work_slot c WHERE c.state = 'writing')
  FROM passed p WHERE w.id = p.run_id AND w.slot = -1
  RETURNING w.id
), dropped AS (
  DELETE FROM duework.concurrency_slot s
  USING freed f
  WHERE s.key = f.key AND s.slot = f.slot AND s.run_id = f.run_id
    AND NOT EXISTS (SELECT FROM passed p WHERE p.key = f.key AND p.slot = f.slot)
)
SELECT p.key, p.slot, p.run_id FROM passed p
UNION ALL
SELECT f.key, f.slot, NULL FROM freed f
WHERE NOT EXISTS (SELECT FROM passed p WHERE p.key = f.key AND p.slot = f.slot)
  AND EXISTS (SELECT FROM passed p WHERE p.key = f.key)
  AND (SELECT count(*) FROM next n WHERE n.key = f.key) = (SELECT k.many FROM keys k WHERE k.key = f.key)
