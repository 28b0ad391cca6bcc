-- Everything that 0002 made.
DROP VIEW duework.waits;
DROP TABLE duework.wait;
ALTER TABLE duework.due_work DROP COLUMN linked;
ALTER TABLE duework.task
  DROP CONSTRAINT task_schedule_options_object,
  DROP CONSTRAINT task_schedule_start_finite;
