-- Move the finished steps of runs that ended without their worker (dead-lettered, canceled) into history.
-- Promises: each is in duework.steps before and after, once; steps of live runs are left alone; a step whose items were
-- under way (`running`, with its list) is canceled. Locks: the rows moved. Fence: the absence of the due_work row.
WITH gone AS (
  DELETE FROM duework.checkpoint c
  WHERE c.run_id = ANY(%(run_ids)s::uuid[])
    AND NOT EXISTS (SELECT FROM duework.due_work w WHERE w.id = c.run_id)
  RETURNING c.run_id, c.record
)
INSERT INTO duework.step_run (run_id, attempt, position, step, item, tool, status, tries, started_at,
  finished_at, input, output, error, verdict)
SELECT g.run_id, s.attempt, s.position, s.step, s.item, s.tool,
  CASE s.status WHEN 'running' THEN 'canceled' ELSE s.status END, s.tries, s.started_at,
  s.finished_at, CASE WHEN s.status <> 'running' THEN s.input END, s.output, s.error, s.verdict
FROM gone g, jsonb_to_record(g.record)
  AS s(attempt integer, position integer, step text, item integer, tool text, status text, tries integer,
       started_at timestamptz, finished_at timestamptz, input jsonb, output jsonb, error jsonb, verdict jsonb)
