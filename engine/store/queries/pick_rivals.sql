-- The rows that wait for concurrency keys to replace the runs that hold them.
-- Promises: all of them but those that somebody else is changing, the newest first. Locks: FOR UPDATE SKIP LOCKED on
-- the rows. Fence: none.
SELECT w.id AS run_id, w.concurrency_key, w.concurrency_limit, w.on_conflict, w.run_at, w.waiting
FROM duework.due_work w
WHERE w.slot = -1 AND w.waiting AND w.concurrency_key = ANY (%(keys)s::text[]) AND w.on_conflict = 'cancel_running'
ORDER BY w.run_at DESC, w.id DESC
FOR UPDATE SKIP LOCKED
