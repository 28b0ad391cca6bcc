-- Which tasks the next batch would take, and the version of each row: nothing else of them is read, because one of them
-- cannot be. Promises: a snapshot, in the order of lock_due_tasks. Locks: none. Fence: none; `seen` is one for others.
SELECT t.id, t.xmin::text AS seen
FROM duework.task t
WHERE t.status = 'active' AND t.next_run <= coalesce(%(now)s::timestamptz, now()) + %(horizon)s
ORDER BY t.next_run
LIMIT %(limit)s
