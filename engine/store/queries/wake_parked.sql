-- Let parked runs go on that have an answer nobody has taken.
-- Promises: they may be leased when this commits, from wherever they lay; a run that waits between two attempts keeps
-- its delay, and takes the answer then: its state names no steps (engine/execution/waits.py).
-- Locks: the due_work rows, which the caller holds. Fence: only rows that nobody leased; a run that has not parked yet
-- comes by here when it does.
UPDATE duework.due_work w
SET run_at = coalesce(%(now)s::timestamptz, now()),
    slot = (SELECT s.slot FROM duework.due_work_slot s WHERE s.state = 'writing')
WHERE w.id = ANY (%(run_ids)s::uuid[]) AND w.locked_until IS NULL AND w.state ?| ARRAY['steps', 'step'] AND NOT w.waiting
  AND w.run_at > coalesce(%(now)s::timestamptz, now())
  AND EXISTS (SELECT FROM duework.wait v
              WHERE v.run_id = w.id AND v.resolved_at IS NOT NULL AND v.taken_at IS NULL)
RETURNING w.id AS run_id
