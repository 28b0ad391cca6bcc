-- The tasks whose next instant lies within the horizon; that has come, where a dedupe key without a window has to
-- look at what is live then.
-- Promises: each is worked on by one scheduler at a time; the others skip it. Locks: FOR NO KEY UPDATE SKIP
-- LOCKED on the task rows, so that edits wait and inserts of their versions do not. Fence: none; the ledger's
-- primary key is what makes two schedulers safe.
-- `only` names those that are looked at, where a batch failed on one of them; else null.
-- A task that was planned with newer zone data than ours (text order is the order of releases) is left to the
-- schedulers that have it, as long as one of them ticks.
-- With a million tasks it reads 18 pages when none of them is due (tests/load/ticks.py).
SELECT t.id, t.name, t.version, t.schedule_kind, t.schedule_expr, t.timezone, t.schedule_start,
       t.schedule_options, t.priority, t.next_run, t.dedupe_scheduled AS dedupe_key, t.dedupe_window,
       t.updated_at, t.tzdata_version,
       coalesce(%(now)s::timestamptz, now()) AS at
FROM duework.task t
WHERE t.status = 'active' AND t.next_run <= coalesce(%(now)s::timestamptz, now()) + %(horizon)s
  AND (%(only)s::uuid[] IS NULL OR t.id = ANY (%(only)s::uuid[]))
  AND (t.dedupe_scheduled IS NULL OR t.dedupe_window IS NOT NULL
       OR t.next_run <= coalesce(%(now)s::timestamptz, now()))
  AND NOT (coalesce(t.tzdata_version, '') COLLATE "C" > %(tzdata_version)s AND EXISTS (
    SELECT FROM duework.scheduler s
    WHERE s.tzdata_version COLLATE "C" > %(tzdata_version)s
      AND s.last_tick > coalesce(%(now)s::timestamptz, now()) - s.late_after))
ORDER BY t.next_run
LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED
