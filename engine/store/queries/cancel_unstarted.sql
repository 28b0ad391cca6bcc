-- End those of some runs that nobody has begun: a backfill that is called off, a task that is canceled.
-- Promises: each is in history as canceled, and never runs; a run that was ever leased is left alone. Locks: the
-- rows removed, in the order of their ids; they are waited for: one that a worker is leasing at this moment runs, one
-- that is only being moved to another slot goes (SQLSTATE 40001, tried again).
-- Fence: only unleased rows that never had one; a lease that comes first wins.
WITH mine AS MATERIALIZED (
  SELECT w.id, w.slot
  FROM duework.due_work w
  WHERE w.id = ANY (%(run_ids)s) AND w.locked_until IS NULL AND w.fence IS NULL
  ORDER BY w.id
  FOR UPDATE
), gone AS (
  DELETE FROM duework.due_work w USING mine m WHERE w.id = m.id AND w.slot + 0 = m.slot
  RETURNING w.*
), runs AS (
  INSERT INTO duework.task_run (run_id, attempt, task_id, task_version, trigger, scheduled_for, params, event,
    status, final, finished_at, error, parent_run_id)
  SELECT g.id, 0, g.task_id, g.task_version, g.trigger, g.scheduled_for, g.params, g.event,
    'canceled', true, coalesce(%(now)s::timestamptz, now()),
    jsonb_build_object('code', 'canceled', 'message', %(reason)s::text), g.parent_run_id
  FROM gone g
)
SELECT g.id AS run_id, g.concurrency_key, g.key_slot, g.linked FROM gone g
