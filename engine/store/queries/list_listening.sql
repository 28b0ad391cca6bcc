-- The waits that an event of this topic may answer; `*` patterns and filters are matched by the caller.
-- Promises: none that was committed is left out, unless it has an answer or its time is over. Locks: none: what
-- changes meanwhile is seen by resolve_waits. Fence: none.
SELECT v.run_id, v.step, v.item, v.topic, v.filter, v.given
FROM duework.wait v
WHERE v.kind = 'event' AND v.resolved_at IS NULL
  AND (v.topic = %(topic)s OR strpos(v.topic, '*') > 0)
  AND (v.deadline IS NULL OR v.deadline > coalesce(%(now)s::timestamptz, now()))
