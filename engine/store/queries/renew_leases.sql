-- Prolong the leases of one worker.
-- Promises: `renewed` rows are ours for another lease; a row that comes back without is locked by somebody at this
-- moment and keeps its old end; one that does not come back is lost and must not be written to. Locks: FOR NO KEY
-- UPDATE SKIP LOCKED on the rows renewed: one locked row must not cost the others their leases.
-- Fence: (id, fence), and only while it is leased.
WITH input AS (
  SELECT * FROM unnest(%(run_ids)s::uuid[], %(fences)s::bigint[]) AS i(id, fence)
), mine AS MATERIALIZED (
  SELECT w.id, w.slot
  FROM duework.due_work w JOIN input i ON w.id = i.id AND w.fence = i.fence AND w.locked_until IS NOT NULL
  FOR NO KEY UPDATE OF w SKIP LOCKED
), done AS (
  UPDATE duework.due_work w
  SET locked_until = coalesce(%(now)s::timestamptz, now()) + %(lease)s
  FROM mine m WHERE w.id = m.id AND w.slot + 0 = m.slot
  RETURNING w.id, w.cancel_reason
)
SELECT w.id AS run_id, d.id IS NOT NULL AS renewed, d.cancel_reason
FROM input i
JOIN duework.due_work w ON w.id = i.id AND w.fence = i.fence AND w.locked_until IS NOT NULL
LEFT JOIN done d ON d.id = w.id
