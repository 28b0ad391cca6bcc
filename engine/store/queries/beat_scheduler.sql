-- A scheduler says that it ticked, with which zone data, and how long from now it is to be missed.
-- Promises: one row per process. Locks: its own row. Fence: none.
INSERT INTO duework.scheduler (id, host, pid, version, tzdata_version, late_after)
VALUES (%(id)s, %(host)s, %(pid)s, %(version)s, %(tzdata_version)s, %(late_after)s)
ON CONFLICT (id) DO UPDATE SET last_tick = now(), late_after = excluded.late_after
