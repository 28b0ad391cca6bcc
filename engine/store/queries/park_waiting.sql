-- Lay rows whose concurrency key is taken aside, until a number is passed on to them.
-- Promises: no lease looks at them any more; they keep their place in the order. Locks: the rows, held since
-- pick_refused. Fence: only rows that nobody leased and that hold nothing.
UPDATE duework.due_work w
SET slot = -1, waiting = true
WHERE w.id = ANY (%(run_ids)s::uuid[]) AND w.slot >= 0 AND w.locked_until IS NULL AND w.key_slot IS NULL
RETURNING w.id AS run_id
