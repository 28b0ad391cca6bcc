-- Take up to %(limit)s due rows for one worker, priority 1 first, oldest first within a priority.
-- Promises: no row is handed to two workers; each lease has a fence larger than every earlier one.
-- Locks: FOR UPDATE SKIP LOCKED on exactly the rows taken, so competing workers never wait for each other.
-- Fence: drawn after the row lock, in the UPDATE. Expired leases are the reaper's, not ours: taking them
-- here would leave no row of the attempt that was lost. One index range per priority (LATERAL) instead of
-- one scan: rows that lie ready for the next minute would otherwise be waded through by every lease.
WITH picked AS MATERIALIZED (
  SELECT d.id, d.slot, d.fence IS NOT NULL AS leased_before
  FROM generate_series(1, 9) AS p(priority)
  CROSS JOIN LATERAL (
    SELECT w.id, w.slot, w.fence
    FROM duework.due_work w
    WHERE w.slot >= 0 AND w.priority = p.priority
      AND w.run_at <= coalesce(%(now)s::timestamptz, now())
      AND w.locked_until IS NULL
      AND (w.expires_at IS NULL OR w.expires_at > coalesce(%(now)s::timestamptz, now()) OR w.attempt > 0)
    ORDER BY w.run_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
  ) d
  LIMIT %(limit)s
)
UPDATE duework.due_work w
SET locked_until = coalesce(%(now)s::timestamptz, now()) + %(lease)s,
    locked_by = %(worker)s,
    attempt = w.attempt + 1,
    fence = nextval('duework.fence')
FROM picked
WHERE w.id = picked.id AND w.slot = picked.slot
RETURNING w.id AS run_id, w.slot, w.task_id, w.task_version, w.trigger, w.scheduled_for, w.run_at, w.priority,
          w.attempt, w.fence, w.params, w.event, w.state, w.created_by, picked.leased_before,
          coalesce(%(now)s::timestamptz, clock_timestamp()) AS leased_at
