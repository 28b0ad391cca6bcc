-- Everything that 0002 made.
DROP VIEW duework.allowances;
DROP TABLE duework.allowance;
DROP VIEW duework.quarantine;
DROP TABLE duework.held_run, duework.gate_key;
DO $$
DECLARE
  big record;
BEGIN
  FOR big IN
    SELECT a.attrelid::regclass AS rel, a.attname AS col
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'duework'
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attcompression <> '' AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p')
  LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET COMPRESSION default', big.rel, big.col);
  END LOOP;
END $$;
CREATE OR REPLACE VIEW duework.runs_live (
  run_id, task_id, task, task_version, trigger, status, success, attempt, scheduled_for, started_at,
  finished_at, duration_ms, params, output, error, worker, parent_run_id) AS
SELECT d.id, d.task_id, t.name, d.task_version, d.trigger,
       CASE WHEN d.locked_until IS NOT NULL THEN 'running'
            WHEN d.state IS NOT NULL OR d.waiting THEN 'waiting'
            WHEN d.run_at > now() THEN 'scheduled'
            ELSE 'queued' END,
       NULL::boolean, d.attempt, d.scheduled_for, NULL::timestamptz, NULL::timestamptz, NULL::double precision,
       d.params, NULL::jsonb, NULL::jsonb, d.locked_by, d.parent_run_id
FROM duework.due_work d LEFT JOIN duework.task t ON t.id = d.task_id;
CREATE OR REPLACE VIEW duework.steps AS
SELECT s.run_id, s.attempt, s.position, s.step, s.item, s.tool, s.status, s.tries, s.started_at,
       s.finished_at, s.duration_ms, s.input, s.output, s.error, s.verdict
FROM duework.step_run s
UNION ALL
SELECT c.run_id, c.attempt, (c.record ->> 'position')::integer, c.step, nullif(c.item, -1),
       c.record ->> 'tool', c.record ->> 'status', (c.record ->> 'tries')::integer,
       (c.record ->> 'started_at')::timestamptz, (c.record ->> 'finished_at')::timestamptz,
       round(extract(epoch FROM (c.record ->> 'finished_at')::timestamptz
                              - (c.record ->> 'started_at')::timestamptz) * 1000, 3)::double precision,
       c.record -> 'input', c.record -> 'output', c.record -> 'error', c.record -> 'verdict'
FROM duework.checkpoint c;
COMMENT ON COLUMN duework.steps.status IS 'succeeded failed blocked skipped canceled timed_out';
COMMENT ON COLUMN duework.steps.input IS 'What the gate let in; secrets are marks';
DROP TABLE duework.tool_breaker, duework.tool_slot, duework.rate_bucket;
DROP FUNCTION duework.waiting_steps;
DROP VIEW duework.waits;
DROP TABLE duework.wait;
ALTER TABLE duework.due_work DROP COLUMN linked;
ALTER TABLE duework.scheduler DROP COLUMN late_after;
ALTER TABLE duework.task
  DROP COLUMN schedule_error,
  DROP CONSTRAINT task_instants,
  DROP CONSTRAINT task_dedupe,
  DROP CONSTRAINT task_concurrency,
  DROP CONSTRAINT task_schedule_options_object,
  DROP CONSTRAINT task_schedule_start_finite;
