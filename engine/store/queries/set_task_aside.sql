-- Take a task that no tick can plan out of their way, and say why.
-- Promises: it is due no more until somebody changes it; whoever has changed it meanwhile is not overruled.
-- Locks: the task row. Fence: `seen`, the version of the row that failed.
UPDATE duework.task t SET next_run = NULL, schedule_error = %(error)s
WHERE t.id = %(id)s AND t.xmin::text = %(seen)s AND t.status = 'active'
RETURNING t.name
