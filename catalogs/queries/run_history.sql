-- The latest runs: one row per run, all its attempts together.
SELECT task, trigger, status, attempt, to_char(started_at, 'HH24:MI:SS.MS') AS started,
       round(duration_ms::numeric, 1) AS ms, error ->> 'code' AS error
FROM duework.runs
WHERE finished_at IS NOT NULL
ORDER BY finished_at DESC
LIMIT 12;
