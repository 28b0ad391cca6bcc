-- Take tokens of a tool's rate: `wanted` for calls that wait now, `ahead` for those that will come.
-- Each token has an instant, `interval` apart from every other; it may be used from `tolerance` before it until
-- `interval` after it, and never again, so that no window of a rate's length has room for more than limit + burst.
-- Promises: tokens whose use begins within `patience`; who gets none is told an instant of its own to come back at,
-- at most `longest` away. `patience` is at most `horizon`, so that an instant beyond it was left by a slower rate of
-- before: it is brought back.
-- `first` is the instant of the first token, not before `lead` from now. The clock is read once the lock is held: an older
-- time would take instants back that others were given. Locks: the tool's one row. Fence: the lock.
WITH bucket AS MATERIALIZED (
  SELECT b.next_at, b.promised_at FROM duework.rate_bucket b WHERE b.tool = %(tool)s FOR UPDATE
), timed AS MATERIALIZED (
  SELECT b.*, coalesce(%(now)s::timestamptz, clock_timestamp()) AS now FROM bucket b
), placed AS (
  SELECT k.*, greatest(k.next_at, k.now + %(lead)s::interval) AS first
  FROM (SELECT b.now, b.promised_at,
               least(b.next_at, b.now + %(horizon)s::interval + %(tolerance)s::interval + %(interval)s::interval) AS next_at
        FROM timed b) k
), counted AS (
  SELECT p.*, least(%(wanted)s::bigint + %(ahead)s::bigint, greatest(0, 1 + floor(
           extract(epoch FROM p.now + %(patience)s::interval + %(tolerance)s::interval - p.first)
           / extract(epoch FROM %(interval)s::interval)))::bigint) AS granted
  FROM placed p
), refused AS (
  SELECT c.*, greatest(0, %(wanted)s::bigint - c.granted) AS refused,
         greatest(c.promised_at, c.now + %(patience)s::interval,
                  c.first + c.granted * %(interval)s::interval - %(tolerance)s::interval) AS back
  FROM counted c
), promised AS (
  SELECT r.*, CASE WHEN r.back > r.now + %(longest)s::interval THEN r.now + %(patience)s::interval ELSE r.back END AS back_at
  FROM refused r
)
UPDATE duework.rate_bucket b
SET next_at = CASE WHEN p.granted > 0 THEN p.first + p.granted * %(interval)s::interval ELSE p.next_at END,
    promised_at = CASE WHEN p.refused > 0 THEN p.back_at + p.refused * %(interval)s::interval ELSE b.promised_at END
FROM promised p
WHERE b.tool = %(tool)s
RETURNING p.now, p.first, p.granted, p.refused, p.back_at - p.now AS back_in
