-- Cancel one run: at once if nobody has it, else by a flag that its worker sees at the next renewal.
-- Promises: an unleased run ends here and now with a history row, and one for each step that waited; a leased one is
-- marked and its holder ends it. Locks: the due_work row. Fence: none is needed to mark; the holder's own fence still decides the end.
WITH found AS MATERIALIZED (
  SELECT w.id, w.slot, w.locked_until IS NOT NULL AS leased, w.concurrency_key, w.key_slot, w.linked
  FROM duework.due_work w WHERE w.id = %(run_id)s FOR UPDATE
), marked AS (
  UPDATE duework.due_work w SET cancel_reason = %(reason)s
  FROM found f WHERE w.id = f.id AND w.slot + 0 = f.slot AND f.leased
  RETURNING w.id
), gone AS (
  DELETE FROM duework.due_work w USING found f
  WHERE w.id = f.id AND w.slot + 0 = f.slot AND NOT f.leased
  RETURNING w.*
), runs AS (
  INSERT INTO duework.task_run (run_id, attempt, task_id, task_version, trigger, scheduled_for, params, event,
    status, final, finished_at, error, fence, parent_run_id)
  SELECT g.id, g.attempt, g.task_id, g.task_version, g.trigger, g.scheduled_for, g.params, g.event,
    'canceled', true, coalesce(%(now)s::timestamptz, now()),
    jsonb_build_object('code', 'canceled', 'message', %(reason)s::text), g.fence, g.parent_run_id
  FROM gone g
), steps AS (
  INSERT INTO duework.step_run (run_id, attempt, position, step, item, tool, status, tries, started_at, finished_at, error)
  SELECT g.id, coalesce((g.state ->> 'attempt')::integer, g.attempt), s.position, s.step, s.item, s.tool, 'canceled',
    s.tries, s.started_at, coalesce(%(now)s::timestamptz, now()),
    jsonb_build_object('code', 'canceled', 'message', %(reason)s::text)
  FROM gone g CROSS JOIN LATERAL duework.waiting_steps(g.id, g.state) AS s
)
SELECT f.id AS run_id, f.leased, f.concurrency_key, f.key_slot, f.linked FROM found f
