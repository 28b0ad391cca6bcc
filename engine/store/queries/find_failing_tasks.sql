-- Of these tasks, those that ask to be paused after as many unsuccessful runs in a row as they have had.
-- Promises: only active tasks with pause_after_failures; runs count in the order in which they were accepted, and those
-- from before the last resume not at all; canceled and skipped ones, and those that repeat the past (backfill, retry),
-- do not count, nor does a probe that failed and was followed by one that did not. Acceptance is in the run's id, by the
-- server's clock; finished_at is a worker's estimate, and here to pass over old partitions.
-- Locks: none. Fence: none; the caller locks the task's row and asks again before it pauses.
SELECT t.id AS task_id, t.name, t.pause_after_failures AS failures, f.errors[1] AS error
FROM duework.task t
CROSS JOIN LATERAL (
  SELECT encode(substring(int8send(floor(extract(epoch FROM t.status_changed_at) * 1000)::bigint) FROM 3)
                || decode(repeat('00', 10), 'hex'), 'hex')::uuid AS first_id
) s
CROSS JOIN LATERAL (
  SELECT count(*) AS runs, bool_or(r.success) AS recovered, array_agg(r.error ORDER BY r.run_id DESC) AS errors
  FROM (
    SELECT d.run_id, d.success, d.error
    FROM duework.task_run d
    WHERE d.task_id = t.id AND d.run_id > s.first_id AND d.final
      AND d.finished_at > t.status_changed_at - interval '1 day'
      AND d.status NOT IN ('canceled', 'skipped') AND d.trigger NOT IN ('backfill', 'retry')
      AND (d.trigger = 'condition' AND d.error ->> 'step' = 'probe' AND d.scheduled_for <= t.condition_at) IS NOT TRUE
    ORDER BY d.run_id DESC
    LIMIT t.pause_after_failures
  ) r
) f
WHERE t.id = ANY(%(task_ids)s::uuid[]) AND t.pause_after_failures IS NOT NULL AND t.status = 'active'
  AND f.runs = t.pause_after_failures AND NOT f.recovered
