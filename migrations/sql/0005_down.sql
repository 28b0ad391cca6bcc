-- As before 0005.
ALTER TABLE duework.due_work DROP CONSTRAINT due_work_trigger_check;
ALTER TABLE duework.due_work ADD CONSTRAINT due_work_trigger_check CHECK (
  trigger IN ('schedule', 'run_now', 'event', 'backfill', 'retry', 'condition', 'pipeline'));
DO $$
DECLARE
  part text;
BEGIN
  FOREACH part IN ARRAY ARRAY['runs', 'runs_ended', 'runs_live', 'runs_unstarted'] LOOP
    EXECUTE format('COMMENT ON COLUMN duework.%I.trigger IS %L', part,
                   'schedule, run_now, event, backfill, retry, condition or pipeline');
  END LOOP;
END $$;
