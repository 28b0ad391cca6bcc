-- Put failed runs back for another attempt, and write the attempt that failed.
-- Promises: the attempt is in history and the row waits for its next run_at, or neither; `state` is what the next
-- attempt has to know, and says that nobody waits for anything but run_at; a run whose cancellation
-- was promised meanwhile ends as canceled instead, with a row for each step that waits; runs that waits are about are left out unless they are asked for, as
-- in settle_runs. Locks: the rows changed. Fence: (id, fence), and only while it is leased; a new fence is drawn so that the old one is dead.
WITH held AS (
  SELECT w.id, w.slot, w.attempt, w.locked_by, w.fence, w.cancel_reason, w.concurrency_key, w.key_slot, w.linked,
         i.status, i.started_at, i.finished_at, i.error, i.delay, i.state, i.steps
  FROM duework.due_work w
  JOIN jsonb_to_recordset(%(runs)s::jsonb)
    AS i(id uuid, fence bigint, status text, started_at timestamptz, finished_at timestamptz,
         error jsonb, delay double precision, state jsonb, steps jsonb)
    ON w.id = i.id AND w.fence = i.fence AND w.locked_until IS NOT NULL AND (%(linked)s OR NOT w.linked)
  FOR UPDATE OF w
), back AS (
  UPDATE duework.due_work w
  SET locked_until = NULL, locked_by = NULL, fence = nextval('duework.fence'), state = h.state,
      run_at = coalesce(%(now)s::timestamptz, now()) + make_interval(secs => h.delay),
      slot = duework.slot_for(coalesce(%(now)s::timestamptz, now()) + make_interval(secs => h.delay),
                              coalesce(%(now)s::timestamptz, now()))
  FROM held h
  WHERE w.id = h.id AND w.slot + 0 = h.slot AND h.cancel_reason IS NULL
  RETURNING h.*, w.task_id, w.task_version, w.trigger, w.scheduled_for, w.params, w.event, w.parent_run_id
), gone AS (
  DELETE FROM duework.due_work w
  USING held h
  WHERE w.id = h.id AND w.slot + 0 = h.slot AND h.cancel_reason IS NOT NULL
  RETURNING h.*, w.task_id, w.task_version, w.trigger, w.scheduled_for, w.params, w.event, w.parent_run_id
), ended AS (
  SELECT * FROM back UNION ALL SELECT * FROM gone
), runs AS (
  INSERT INTO duework.task_run (run_id, attempt, task_id, task_version, trigger, scheduled_for, params, event,
    status, final, started_at, finished_at, error, worker, fence, parent_run_id)
  SELECT e.id, e.attempt, e.task_id, e.task_version, e.trigger, e.scheduled_for, e.params, e.event,
    CASE WHEN e.cancel_reason IS NULL THEN e.status ELSE 'canceled' END, e.cancel_reason IS NOT NULL,
    e.started_at, e.finished_at,
    CASE WHEN e.cancel_reason IS NULL THEN e.error
         ELSE jsonb_build_object('code', 'canceled', 'message', e.cancel_reason) END,
    e.locked_by, e.fence, e.parent_run_id
  FROM ended e
), steps AS (
  INSERT INTO duework.step_run (run_id, attempt, position, step, item, tool, status, tries, started_at,
    finished_at, input, output, error, verdict)
  SELECT h.id, s.attempt, s.position, s.step, s.item, s.tool, s.status, s.tries, s.started_at,
    s.finished_at, s.input, s.output, s.error, s.verdict
  FROM held h CROSS JOIN LATERAL jsonb_to_recordset(h.steps)
    AS s(attempt integer, position integer, step text, item integer, tool text, status text,
         tries integer, started_at timestamptz, finished_at timestamptz, input jsonb, output jsonb, error jsonb,
         verdict jsonb)
), waited AS (
  INSERT INTO duework.step_run (run_id, attempt, position, step, item, tool, status, tries, started_at, finished_at, error)
  SELECT g.id, g.attempt, s.position, s.step, s.item, s.tool, 'canceled', s.tries, s.started_at, g.finished_at,
    jsonb_build_object('code', 'canceled', 'message', g.cancel_reason)
  FROM gone g CROSS JOIN LATERAL duework.waiting_steps(g.id, g.state) AS s
  WHERE g.status <> 'timed_out'  -- then their rows are among the steps
)
SELECT e.id AS run_id, e.cancel_reason IS NOT NULL AS canceled, e.concurrency_key, e.key_slot, e.linked
FROM ended e
