-- The ledger: every instant that a schedule named, and what became of it.
SELECT task, disposition, status, sum(count) AS instants,
       to_char(min(scheduled_for), 'HH24:MI:SS') AS first, to_char(max(scheduled_for), 'HH24:MI:SS') AS last
FROM duework.occurrences
WHERE scheduled_for <= now()
GROUP BY task, disposition, status
ORDER BY task, disposition;
