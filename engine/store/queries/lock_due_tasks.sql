-- The tasks whose next instant lies within the horizon.
-- Promises: each is worked on by one scheduler at a time; the others skip it. Locks: FOR NO KEY UPDATE SKIP
-- LOCKED on the task rows, so that edits wait and inserts of their versions do not. Fence: none; the ledger's
-- primary key is what makes two schedulers safe.
SELECT t.id, t.name, t.version, t.schedule_kind, t.schedule_expr, t.timezone, t.schedule_start,
       t.schedule_options, t.priority, t.next_run, coalesce(%(now)s::timestamptz, now()) AS at
FROM duework.task t
WHERE t.status = 'active' AND t.next_run <= coalesce(%(now)s::timestamptz, now()) + %(horizon)s
ORDER BY t.next_run
LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED
