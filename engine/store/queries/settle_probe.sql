-- What a probe found: `succeeded` true, false, or null when it never reached the tool.
-- Promises: a failure opens the breaker again; the last of `wanted` successes closes it; otherwise the next probe may
-- come. Nothing where the claim ran out and is somebody else's. Locks: the tool's row. Fence: `probe`.
UPDATE duework.tool_breaker b
SET state = CASE WHEN %(succeeded)s::boolean IS FALSE THEN 'open'
                 WHEN %(succeeded)s::boolean AND b.successes + 1 >= %(wanted)s THEN 'closed' ELSE 'half_open' END,
    open_until = CASE WHEN %(succeeded)s::boolean IS FALSE
                      THEN coalesce(%(now)s::timestamptz, now()) + %(open_for)s::interval END,
    successes = CASE WHEN %(succeeded)s::boolean AND b.successes + 1 < %(wanted)s THEN b.successes + 1
                     WHEN %(succeeded)s::boolean IS NULL THEN b.successes ELSE 0 END,
    failures = CASE WHEN %(succeeded)s::boolean AND b.successes + 1 >= %(wanted)s THEN 0 ELSE b.failures END,
    changed_at = CASE WHEN %(succeeded)s::boolean IS FALSE
                        OR %(succeeded)s::boolean AND b.successes + 1 >= %(wanted)s
                      THEN coalesce(%(now)s::timestamptz, now()) ELSE b.changed_at END,
    probe = NULL, probe_until = NULL
WHERE b.tool = %(tool)s AND b.probe = %(probe)s
RETURNING b.state
