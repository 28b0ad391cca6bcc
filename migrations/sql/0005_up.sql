-- Work that somebody submitted as a goal, under a trigger of its own: GET /tasks/{id} shows such runs.
-- Locks: ACCESS EXCLUSIVE on due_work while its rows are read once.
ALTER TABLE duework.due_work DROP CONSTRAINT due_work_trigger_check;
ALTER TABLE duework.due_work ADD CONSTRAINT due_work_trigger_check CHECK (
  trigger IN ('schedule', 'run_now', 'event', 'backfill', 'retry', 'condition', 'pipeline', 'submit'));
DO $$
DECLARE
  part text;
BEGIN
  FOREACH part IN ARRAY ARRAY['runs', 'runs_ended', 'runs_live', 'runs_unstarted'] LOOP
    EXECUTE format('COMMENT ON COLUMN duework.%I.trigger IS %L', part,
                   'schedule, run_now, event, backfill, retry, condition, pipeline or submit');
  END LOOP;
END $$;
