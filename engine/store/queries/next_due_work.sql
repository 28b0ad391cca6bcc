-- How long until the next row may be leased: what a worker sleeps when it has found nothing.
-- Promises: never longer than the truth for rows committed now; null when nothing waits but for a concurrency key.
-- Locks: none. Fence: none.
SELECT min(d.run_at) - coalesce(%(now)s::timestamptz, clock_timestamp()) AS wait
FROM generate_series(1, 9) AS p(priority)
CROSS JOIN LATERAL (
  SELECT w.run_at
  FROM duework.due_work w
  WHERE w.slot >= 0 AND NOT w.waiting AND w.priority = p.priority AND w.locked_until IS NULL
    AND (w.expires_at IS NULL OR w.expires_at > coalesce(%(now)s::timestamptz, now()) OR w.attempt > 0)
  ORDER BY w.run_at
  LIMIT 1
) d
