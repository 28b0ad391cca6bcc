-- Give leases back that were not used up: a drain, or a run that parks itself until a later instant.
-- Promises: the attempt does not count, and the next lease goes on from the checkpoints; a run that was
-- started no longer expires, since its instant has not been missed. Locks: the rows changed.
-- Fence: (id, fence), and only while it is leased; a new fence is drawn so that the old one is dead.
UPDATE duework.due_work w
SET locked_until = NULL, locked_by = NULL, attempt = w.attempt - 1, fence = nextval('duework.fence'),
    run_at = coalesce(%(now)s::timestamptz, now()) + make_interval(secs => i.delay),
    state = i.state,
    expires_at = CASE WHEN i.started_at IS NULL THEN w.expires_at END,
    slot = duework.slot_for(coalesce(%(now)s::timestamptz, now()) + make_interval(secs => i.delay),
                            coalesce(%(now)s::timestamptz, now()))
FROM jsonb_to_recordset(%(runs)s::jsonb)
  AS i(id uuid, fence bigint, started_at timestamptz, delay double precision, state jsonb)
WHERE w.id = i.id AND w.fence = i.fence AND w.locked_until IS NOT NULL
RETURNING w.id AS run_id
