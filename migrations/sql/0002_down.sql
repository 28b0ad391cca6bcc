-- Everything that 0002 made.
DROP TABLE duework.tool_breaker, duework.tool_slot, duework.rate_bucket;
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
