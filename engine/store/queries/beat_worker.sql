-- A worker says that it lives, and learns whether it shall drain. Promises: one row per process. Locks: its
-- own row. Fence: none.
INSERT INTO duework.worker (id, host, pid, version, slots, busy, labels, draining)
VALUES (%(id)s, %(host)s, %(pid)s, %(version)s, %(slots)s, %(busy)s, %(labels)s, %(draining)s)
ON CONFLICT (id) DO UPDATE SET busy = excluded.busy, last_seen = now(),
  draining = duework.worker.draining OR excluded.draining
RETURNING draining
