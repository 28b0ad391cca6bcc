-- Everything that 0002 made.
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
