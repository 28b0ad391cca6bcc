-- Say what is left to do of a live run, should its worker die: nothing but its on_failure steps, for one.
-- Promises: written only by the holder of the lease; the reaper leaves it to the next one. Locks: the due_work row.
-- Fence: (id, fence), and only while it is leased.
UPDATE duework.due_work w SET state = %(state)s
WHERE w.id = %(run_id)s AND w.fence = %(fence)s AND w.locked_until IS NOT NULL
RETURNING w.id AS run_id
