-- How many rows wait for concurrency keys to replace the runs that hold them.
-- Promises: a snapshot; keys for which nobody waits are left out. Locks: none. Fence: none.
SELECT w.concurrency_key AS key, count(*) AS many
FROM duework.due_work w
WHERE w.slot = -1 AND w.waiting AND w.concurrency_key = ANY (%(keys)s::text[]) AND w.on_conflict = 'cancel_running'
GROUP BY w.concurrency_key
