-- Tell those who wait for runs that have ended what they came to, and drop the waits of those runs themselves.
-- Promises: also those whose time was over, should they ask again; status, output and error are copied, because history may be dropped before somebody reads them; a run that
-- left no history (withdrawn with its instant, or dropped by retention) says so. Locks: the rows of the waits, after
-- those of their runs (lock_awaiting). Fence: they have no answer yet; the caller deleted the runs' rows.
WITH dropped AS (
  DELETE FROM duework.wait v WHERE v.run_id = ANY (%(run_ids)s::uuid[])
)
UPDATE duework.wait v
SET resolved_at = coalesce(%(now)s::timestamptz, now()), resolved_by = 'run:' || v.child_run_id,
    resolution = jsonb_build_object('status', coalesce(r.status, 'gone'), 'output', r.output, 'error', r.error)
FROM unnest(%(run_ids)s::uuid[]) AS i(id)
LEFT JOIN duework.runs r ON r.run_id = i.id
WHERE v.child_run_id = i.id AND v.resolved_at IS NULL AND NOT v.run_id = ANY (%(run_ids)s::uuid[])
RETURNING v.run_id
