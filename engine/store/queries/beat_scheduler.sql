-- A scheduler says that it ticked. Promises: one row per process. Locks: its own row. Fence: none.
INSERT INTO duework.scheduler (id, host, pid, version)
VALUES (%(id)s, %(host)s, %(pid)s, %(version)s)
ON CONFLICT (id) DO UPDATE SET last_tick = now()
