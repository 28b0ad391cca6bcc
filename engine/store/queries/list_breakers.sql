-- The breakers of all tools that ever failed. Promises: `wait` is how long until a probe may be claimed, zero or less
-- for now, null where none is needed. Locks: none. Fence: none.
SELECT b.tool, b.state, b.failures, b.changed_at,
       CASE b.state
         WHEN 'open'
         THEN b.open_until - coalesce(%(now)s::timestamptz, now())
         WHEN 'half_open'
         THEN coalesce(b.probe_until, %(now)s::timestamptz, now()) - coalesce(%(now)s::timestamptz, now())
       END AS wait
FROM duework.tool_breaker b
ORDER BY b.tool
