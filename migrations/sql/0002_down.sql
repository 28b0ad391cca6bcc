-- Everything that 0002 made.
ALTER TABLE duework.task
  DROP CONSTRAINT task_schedule_options_object,
  DROP CONSTRAINT task_schedule_start_finite;
