-- Everything that 0003 made but its role, which other databases of the server may use. What was asked for and is committed
-- was promised: it is not dropped unseen.
DO $$
BEGIN
  IF EXISTS (SELECT FROM duework.request) THEN
    RAISE EXCEPTION 'requests by SQL wait in duework.request' USING ERRCODE = 'restrict_violation',
      HINT = 'Let a worker answer them, or delete them, and try again.';
  END IF;
END $$;
CREATE OR REPLACE VIEW duework.runs_live (
  run_id, task_id, task, task_version, trigger, status, success, attempt, scheduled_for, started_at,
  finished_at, duration_ms, params, output, error, worker, parent_run_id) AS
SELECT d.id, d.task_id, t.name, d.task_version, d.trigger,
       CASE WHEN d.locked_until IS NOT NULL THEN 'running'
            WHEN d.state ?| ARRAY['steps', 'step'] OR d.waiting THEN 'waiting'
            WHEN d.run_at > now() THEN 'scheduled'
            ELSE 'queued' END,
       NULL::boolean, d.attempt, d.scheduled_for, NULL::timestamptz, NULL::timestamptz, NULL::double precision,
       d.params, NULL::jsonb, NULL::jsonb, d.locked_by, d.parent_run_id
FROM duework.due_work d LEFT JOIN duework.task t ON t.id = d.task_id;
DROP FUNCTION duework.run_now, duework.publish, duework.cancel;
DROP TABLE duework.request;
REVOKE USAGE ON SCHEMA duework FROM duework_application;
