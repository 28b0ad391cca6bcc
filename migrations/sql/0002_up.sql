-- Promises: a task that SQL spoilt is refused when it is written, since a tick plans many tasks at once.
-- Locks: ACCESS EXCLUSIVE on task while its rows are read once.

ALTER TABLE duework.task
  ADD CONSTRAINT task_schedule_options_object CHECK (jsonb_typeof(schedule_options) = 'object'),
  ADD CONSTRAINT task_schedule_start_finite CHECK (isfinite(schedule_start));
