-- Give some waits their answer.
-- Promises: each gets the first answer and no other; none after its deadline, which people have read. Locks: the rows
-- of the waits, after those of their runs (lock_runs). Fence: it has no answer yet.
UPDATE duework.wait v
SET resolved_at = coalesce(%(now)s::timestamptz, now()), resolved_by = %(by)s, resolution = %(resolution)s
FROM unnest(%(run_ids)s::uuid[], %(steps)s::text[], %(items)s::integer[]) AS i(run_id, step, item)
WHERE v.run_id = i.run_id AND v.step = i.step AND v.item = i.item
  AND v.kind <> 'sleep' AND v.resolved_at IS NULL
  AND (v.deadline IS NULL OR v.deadline > coalesce(%(now)s::timestamptz, now()))
RETURNING v.run_id, v.step, v.item
