-- Be the one that tries a tool whose breaker was open for long enough.
-- Promises: one claim at a time over all hosts, until it is settled or `ttl` has passed. Locks: the tool's row; who
-- asks at the same moment waits for the other's commit and finds the claim. Fence: `probe`, drawn by the asker.
UPDATE duework.tool_breaker b
SET state = 'half_open', open_until = NULL, probe = %(probe)s,
    probe_until = coalesce(%(now)s::timestamptz, now()) + %(ttl)s::interval,
    successes = CASE WHEN b.state = 'open' THEN 0 ELSE b.successes END,
    changed_at = CASE WHEN b.state = 'open' THEN coalesce(%(now)s::timestamptz, now()) ELSE b.changed_at END
WHERE b.tool = %(tool)s
  AND (b.state = 'open' AND b.open_until <= coalesce(%(now)s::timestamptz, now())
       OR b.state = 'half_open' AND (b.probe IS NULL OR b.probe_until <= coalesce(%(now)s::timestamptz, now())))
RETURNING b.tool
