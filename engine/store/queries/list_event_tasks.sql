-- The active tasks whose topic pattern may match; `*` patterns are matched exactly by the caller.
-- Promises: none is left out. Locks: none. Fence: none.
SELECT t.id, t.name, t.schedule_expr AS topic, t.schedule_options AS options
FROM duework.task t
WHERE t.status = 'active' AND t.schedule_kind = 'event'
  AND (t.schedule_expr = %(topic)s OR strpos(t.schedule_expr, '*') > 0)
ORDER BY t.priority, t.id
