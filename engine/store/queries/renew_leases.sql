-- Prolong the leases of one worker.
-- Promises: a row that comes back is still ours; one that does not is lost and must not be written to.
-- Locks: the rows renewed. Fence: (id, fence), and only while it is leased.
UPDATE duework.due_work w
SET locked_until = coalesce(%(now)s::timestamptz, now()) + %(lease)s
FROM unnest(%(run_ids)s::uuid[], %(fences)s::bigint[]) AS i(id, fence)
WHERE w.id = i.id AND w.fence = i.fence AND w.locked_until IS NOT NULL
RETURNING w.id AS run_id, w.fence, w.cancel_reason
