-- The runs that hold numbers of concurrency keys, and whether each was already asked to end.
-- Promises: a snapshot, the longest holder first. Locks: none. Fence: none.
SELECT s.key, s.slot, s.run_id, w.cancel_reason IS NOT NULL AS asked
FROM duework.concurrency_slot s JOIN duework.due_work w ON w.id = s.run_id
WHERE s.key = ANY (%(keys)s::text[])
ORDER BY s.key, s.taken_at, s.slot
