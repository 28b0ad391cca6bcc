-- What is stored of the steps of runs that have ended, a page of runs at a time, newest first, for a back-test. Promises:
-- every run of the page has a row, one without steps a row without a step; the page after begins below the last row's
-- (ended_at, run_id). Locks: none; a page is a short read-only transaction, read through a cursor. Fence: none.
WITH page AS MATERIALIZED (
  SELECT r.run_id, r.finished_at, r.task_id, r.task_version
  FROM duework.task_run r
  WHERE r.final AND r.finished_at >= %(since)s
    AND (%(task_id)s::uuid IS NULL OR r.task_id = %(task_id)s)
    AND (%(before_at)s::timestamptz IS NULL OR (r.finished_at, r.run_id) < (%(before_at)s, %(before_run)s::uuid))
  ORDER BY r.finished_at DESC, r.run_id DESC
  LIMIT %(runs)s
)
SELECT p.run_id, p.finished_at AS ended_at, p.task_id, p.task_version, t.name AS task,
       s.step, s.item, s.tool, s.status, s.input, s.output, s.verdict
FROM page p
LEFT JOIN duework.task t ON t.id = p.task_id
LEFT JOIN duework.step_run s ON s.run_id = p.run_id
ORDER BY p.finished_at DESC, p.run_id DESC, s.attempt, s.position, s.item
