-- The next active tasks, by id, that were planned with older zone data than ours.
-- Promises: each is worked on by one scheduler at a time; who passes over a locked one comes by again later. Never
-- those of newer data: two schedulers with different releases would otherwise take turns for ever. Text order is the
-- order of releases (2025c, 2026a; after z comes za). Locks: FOR NO KEY UPDATE SKIP LOCKED on the task rows.
-- Fence: the row lock.
SELECT t.id, t.name, t.schedule_kind, t.schedule_expr, t.timezone, t.schedule_start, t.schedule_options,
       t.next_run, t.updated_at, t.tzdata_version, coalesce(%(now)s::timestamptz, now()) AS at
FROM duework.task t
WHERE t.status = 'active' AND t.next_run IS NOT NULL AND t.id > %(after)s
  AND coalesce(t.tzdata_version, '') COLLATE "C" < %(tzdata_version)s
ORDER BY t.id
LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED
