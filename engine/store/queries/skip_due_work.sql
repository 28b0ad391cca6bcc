-- End rows that were never begun because their concurrency key is taken.
-- Promises: an occurrence says `skipped` with the reason, under its run_id; a run without an occurrence is in history
-- as skipped, without an attempt; neither ever runs. Locks: the rows, held since pick_refused or pick_rivals, and
-- their occurrences. Fence: only rows that nobody leased and that hold nothing.
WITH input AS (
  SELECT * FROM unnest(%(run_ids)s::uuid[], %(reasons)s::text[]) AS i(id, reason)
), gone AS (
  DELETE FROM duework.due_work w USING input i
  WHERE w.id = i.id AND w.locked_until IS NULL AND w.key_slot IS NULL
  RETURNING w.*, i.reason
), told AS (
  UPDATE duework.occurrence o
  SET disposition = 'skipped', reason = g.reason
  FROM gone g
  WHERE o.task_id = g.task_id AND o.scheduled_for = g.scheduled_for AND o.run_id = g.id
  RETURNING o.run_id
), runs AS (
  INSERT INTO duework.task_run (run_id, attempt, task_id, task_version, trigger, scheduled_for, params, event,
    status, final, finished_at, error, parent_run_id)
  SELECT g.id, 0, g.task_id, g.task_version, g.trigger, g.scheduled_for, g.params, g.event,
    'skipped', true, coalesce(%(now)s::timestamptz, now()),
    jsonb_build_object('code', 'skipped', 'message', g.reason), g.parent_run_id
  FROM gone g LEFT JOIN told t ON t.run_id = g.id
  WHERE t.run_id IS NULL
)
SELECT g.id AS run_id, g.concurrency_key, g.linked FROM gone g
