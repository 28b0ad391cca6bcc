-- What /ready, /metrics and doctor show of the queue and the tick; what was asked for by SQL and is not checked yet waits
-- like what is queued. Promises: a snapshot. Locks: none.
-- Fence: none.
SELECT t.tick_age, t.tick_late_after,
       EXISTS (SELECT FROM duework.scheduler s WHERE s.last_tick >= now() - s.late_after) AS ticking,
       (SELECT count(*) FROM duework.task a WHERE a.schedule_error IS NOT NULL AND a.status = 'active') AS set_aside,
       (SELECT count(*) FROM duework.worker w WHERE w.last_seen > now() - interval '30 seconds') AS workers,
       q.ready + a.asked AS ready, greatest(q.oldest, a.oldest) AS oldest, q.leased
FROM (SELECT count(*) FILTER (WHERE w.locked_until IS NULL) AS ready,
             now() - min(w.run_at) FILTER (WHERE w.locked_until IS NULL) AS oldest,
             count(*) FILTER (WHERE w.locked_until IS NOT NULL) AS leased
      FROM duework.due_work w WHERE w.slot >= 0 AND w.run_at <= now()) q
CROSS JOIN (SELECT count(*) AS asked, now() - min(r.created_at) AS oldest FROM duework.request r) a
LEFT JOIN (SELECT now() - s.last_tick AS tick_age, s.late_after AS tick_late_after
           FROM duework.scheduler s ORDER BY s.last_tick DESC LIMIT 1) t ON true
