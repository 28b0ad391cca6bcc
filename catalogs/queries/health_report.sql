-- What the pipeline database-health wrote into a table of its own.
SELECT to_char(at, 'HH24:MI:SS') AS at, slow, cache_hit_percent AS cache_hit, slowest -> 0 AS slowest
FROM public.health_report
ORDER BY at DESC
LIMIT 5;
