-- The rows that ask in vain for concurrency keys of which every number below `below` is taken.
-- Promises: rows that are due, hold nothing and ask for no number from `below` on; in the order of leases, a bounded
-- number per key, so that a flood behind one key leaves the way of the leases in few rounds.
-- Locks: FOR UPDATE SKIP LOCKED on the rows. Fence: the numbers are held still by lock_slots.
SELECT d.*
FROM (SELECT i.key, i.below FROM unnest(%(keys)s::text[], %(below)s::integer[]) AS i(key, below)) k
CROSS JOIN LATERAL (
  SELECT w.id AS run_id, w.concurrency_key, w.concurrency_limit, w.on_conflict, w.run_at, w.waiting
  FROM duework.due_work w
  WHERE w.slot >= 0 AND w.concurrency_key = k.key AND NOT w.waiting AND w.key_slot IS NULL
    AND w.locked_until IS NULL AND w.concurrency_limit <= k.below
    AND w.run_at <= coalesce(%(now)s::timestamptz, now())
  ORDER BY w.priority, w.run_at
  LIMIT %(limit)s
  FOR UPDATE SKIP LOCKED
) d
