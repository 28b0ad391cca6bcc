-- Take up to `count` free numbers below a tool's limit for one process.
-- Promises: a number is held by one process until it is given back or `held_until` has passed. `known` are the numbers
-- that have a row; `age` is how long the holders have held on average. Locks: FOR UPDATE SKIP LOCKED on exactly the
-- numbers taken, so that those who ask together never wait for each other. Fence: taken_at, which every later
-- statement on the number names.
WITH free AS MATERIALIZED (
  SELECT s.slot FROM duework.tool_slot s
  WHERE s.tool = %(tool)s AND s.slot < %(limit)s
    AND (s.held_until IS NULL OR s.held_until <= coalesce(%(now)s::timestamptz, now()))
  ORDER BY s.slot LIMIT %(count)s
  FOR UPDATE SKIP LOCKED
), taken AS (
  UPDATE duework.tool_slot s
  SET held_by = %(holder)s, taken_at = coalesce(%(now)s::timestamptz, clock_timestamp()),
      held_until = coalesce(%(now)s::timestamptz, now()) + %(ttl)s::interval
  FROM free f WHERE s.tool = %(tool)s AND s.slot = f.slot
  RETURNING s.slot, s.taken_at
)
SELECT (SELECT coalesce(array_agg(t.slot ORDER BY t.slot), '{}') FROM taken t) AS slots,
       (SELECT coalesce(array_agg(t.taken_at ORDER BY t.slot), '{}') FROM taken t) AS taken_at,
       count(*) AS known,
       avg(coalesce(%(now)s::timestamptz, now()) - s.taken_at) AS age
FROM duework.tool_slot s WHERE s.tool = %(tool)s AND s.slot < %(limit)s
