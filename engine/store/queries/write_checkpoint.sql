-- Keep the record of one finished step of a live run.
-- Promises: written only by the holder of the lease; a step is written once per run. Locks: the due_work
-- row, FOR SHARE, so that it cannot be reaped between the check and the commit. Fence: (id, fence), leased.
WITH held AS (
  SELECT w.id, w.attempt, w.fence
  FROM duework.due_work w
  WHERE w.id = %(run_id)s AND w.fence = %(fence)s AND w.locked_until IS NOT NULL
  FOR SHARE
)
INSERT INTO duework.checkpoint (run_id, step, item, attempt, fence, record)
SELECT h.id, %(step)s, %(item)s, h.attempt, h.fence, %(record)s FROM held h
ON CONFLICT (run_id, step, item) DO UPDATE SET record = excluded.record, fence = excluded.fence,
  attempt = excluded.attempt
RETURNING run_id
