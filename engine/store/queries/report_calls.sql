-- Count what one process saw of some tools since its last report: failures in a row at the end of it, and whether any
-- call succeeded before them. Promises: a closed breaker that comes to `most` in a row opens for `open_for`; one that
-- is not closed is left alone, since only its probe decides. Those that opened come back as `opened`.
-- Locks: the rows, in the order of tools. Fence: the state.
WITH seen AS MATERIALIZED (
  SELECT * FROM unnest(%(tools)s::text[], %(failures)s::integer[], %(succeeded)s::boolean[], %(most)s::integer[],
                       %(open_for)s::interval[]) AS i(tool, failures, succeeded, most, open_for)
), held AS MATERIALIZED (
  SELECT b.tool, b.state, b.failures FROM duework.tool_breaker b
  WHERE b.tool = ANY (%(tools)s::text[]) ORDER BY b.tool FOR UPDATE
), counted AS (
  SELECT h.tool, i.most, i.open_for, CASE WHEN i.succeeded THEN 0 ELSE h.failures END + i.failures AS failures
  FROM held h JOIN seen i USING (tool) WHERE h.state = 'closed'
)
UPDATE duework.tool_breaker b
SET failures = c.failures, successes = 0,
    state = CASE WHEN c.failures >= c.most THEN 'open' ELSE 'closed' END,
    open_until = CASE WHEN c.failures >= c.most THEN coalesce(%(now)s::timestamptz, now()) + c.open_for END,
    changed_at = CASE WHEN c.failures >= c.most THEN coalesce(%(now)s::timestamptz, now()) ELSE b.changed_at END
FROM counted c WHERE b.tool = c.tool
RETURNING b.tool, b.state = 'open' AS opened
