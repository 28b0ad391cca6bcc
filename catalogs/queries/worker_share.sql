-- Which worker process executed what.
SELECT w.pid, w.host, count(a.run_id) AS attempts, string_agg(DISTINCT a.task, ', ') AS tasks, w.alive
FROM duework.workers w
LEFT JOIN duework.attempts a ON a.worker = w.id
GROUP BY w.id, w.pid, w.host, w.alive
ORDER BY w.pid;
