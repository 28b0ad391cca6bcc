-- Drop what dedupe keys held: a day after their window, or once their run has ended.
-- Promises: a hold outlives its window by a day, because instants may be caught up that late. Locks: the rows deleted.
-- Fence: none.
DELETE FROM duework.dedupe_key h
WHERE h.held_until < now() - interval '1 day'
   OR (h.held_until IS NULL AND NOT EXISTS (SELECT FROM duework.due_work d WHERE d.id = h.run_id))
