-- Leave a blocked run blocked for good. Promises: decided once; what it would have needed to go on is forgotten.
-- Locks: the held_run row. Fence: `decision` is null.
UPDATE duework.held_run h
SET decision = 'refused', decided_at = coalesce(%(now)s::timestamptz, now()), decided_by = %(by)s, reason = %(reason)s,
    records = NULL, state = NULL
WHERE h.run_id = %(run_id)s AND h.attempt = %(attempt)s AND h.decision IS NULL
RETURNING h.run_id
