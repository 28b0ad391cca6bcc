-- How late scheduled runs began, in milliseconds after their instant.
SELECT task, count(*) AS runs,
       round(min(extract(epoch FROM started_at - scheduled_for) * 1000), 1) AS least,
       round(avg(extract(epoch FROM started_at - scheduled_for) * 1000), 1) AS average,
       round(max(extract(epoch FROM started_at - scheduled_for) * 1000), 1) AS most
FROM duework.runs
WHERE trigger = 'schedule' AND started_at IS NOT NULL
GROUP BY task
ORDER BY task;
