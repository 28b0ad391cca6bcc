-- What /ready, /metrics and doctor show of the queue and the tick. Promises: a snapshot. Locks: none.
-- Fence: none.
SELECT (SELECT now() - max(s.last_tick) FROM duework.scheduler s) AS tick_age,
       (SELECT count(*) FROM duework.worker w WHERE w.last_seen > now() - interval '30 seconds') AS workers,
       q.ready, q.oldest, q.leased
FROM (SELECT count(*) FILTER (WHERE w.locked_until IS NULL) AS ready,
             now() - min(w.run_at) FILTER (WHERE w.locked_until IS NULL) AS oldest,
             count(*) FILTER (WHERE w.locked_until IS NOT NULL) AS leased
      FROM duework.due_work w WHERE w.slot >= 0 AND w.run_at <= now()) q
