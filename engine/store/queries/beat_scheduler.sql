-- A scheduler says that it ticked, and with which zone data. Promises: one row per process. Locks: its own row.
-- Fence: none.
INSERT INTO duework.scheduler (id, host, pid, version, tzdata_version)
VALUES (%(id)s, %(host)s, %(pid)s, %(version)s, %(tzdata_version)s)
ON CONFLICT (id) DO UPDATE SET last_tick = now()
