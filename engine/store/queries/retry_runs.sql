-- Put failed runs back for another attempt, and write the attempt that failed.
-- Promises: the attempt is in history and the row waits for its next run_at, or neither; `state` is what the next
-- attempt has to know, and says that nobody waits for anything but run_at; a run whose cancellation
-- was promised meanwhile ends as canceled instead, with a row for each step that waits; runs that waits are about are left out unless they are asked for, as
-- in settle_runs. Locks: the rows changed. Fence: (id, fence), and only while it is leased; a new fence is drawn so that the old one is dead.
WITH input AS (
  SELECT *
  FROM jsonb_to_recordset(%(runs)s::jsonb)
    AS i(id uuid, fence bigint, status text, started_at timestamptz, finished_at timestamptz,
         error jsonb, delay double precision, state jsonb)
), held AS (
  SELECT w.id, w.slot, w.attempt, w.locked_by, w.fence, w.cancel_reason, w.concurrency_key, w.key_slot, w.linked
  FROM duework.due_work w JOIN input i ON w.id = i.id AND w.fence = i.fence AND w.locked_until IS NOT NULL
    AND (%(linked)s OR NOT w.linked)
  FOR UPDATE OF w
), back AS (
  UPDATE duework.due_work w
  SET locked_until = NULL, locked_by = NULL, fence = nextval('duework.fence'), state = i.state,
      run_at = coalesce(%(now)s::timestamptz, now()) + make_interval(secs => i.delay),
      slot = duework.slot_for(coalesce(%(now)s::timestamptz, now()) + make_interval(secs => i.delay),
                              coalesce(%(now)s::timestamptz, now()))
  FROM held h JOIN input i ON i.id = h.id
  WHERE w.id = h.id AND w.slot + 0 = h.slot AND h.cancel_reason IS NULL
  RETURNING w.id, w.task_id, w.task_version, w.trigger, w.scheduled_for, w.params, w.event, w.parent_run_id
), gone AS (
  DELETE FROM duework.due_work w
  USING held h
  WHERE w.id = h.id AND w.slot + 0 = h.slot AND h.cancel_reason IS NOT NULL
  RETURNING w.id, w.task_id, w.task_version, w.trigger, w.scheduled_for, w.params, w.event, w.parent_run_id
), ended AS (
  SELECT * FROM back UNION ALL SELECT * FROM gone
), runs AS (
  INSERT INTO duework.task_run (run_id, attempt, task_id, task_version, trigger, scheduled_for, params, event,
    status, final, started_at, finished_at, error, worker, fence, parent_run_id)
  SELECT e.id, h.attempt, e.task_id, e.task_version, e.trigger, e.scheduled_for, e.params, e.event,
    CASE WHEN h.cancel_reason IS NULL THEN i.status ELSE 'canceled' END, h.cancel_reason IS NOT NULL,
    i.started_at, i.finished_at,
    CASE WHEN h.cancel_reason IS NULL THEN i.error
         ELSE jsonb_build_object('code', 'canceled', 'message', h.cancel_reason) END,
    h.locked_by, h.fence, e.parent_run_id
  FROM ended e JOIN held h USING (id) JOIN input i USING (id)
), steps AS (
  INSERT INTO duework.step_run (run_id, attempt, position, step, item, tool, status, tries, started_at,
    finished_at, input, output, error, verdict)
  SELECT h.id, s.attempt, s.position, s.step, s.item, s.tool, s.status, s.tries, s.started_at,
    s.finished_at, s.input, s.output, s.error, s.verdict
  FROM jsonb_to_recordset(%(steps)s::jsonb)
    AS s(run_id uuid, attempt integer, position integer, step text, item integer, tool text, status text,
         tries integer, started_at timestamptz, finished_at timestamptz, input jsonb, output jsonb, error jsonb,
         verdict jsonb)
  JOIN held h ON h.id = s.run_id
), waited AS (
  INSERT INTO duework.step_run (run_id, attempt, position, step, item, tool, status, tries, started_at, finished_at, error)
  SELECT g.id, h.attempt, s.position, s.step, s.item, s.tool, 'canceled', s.tries, s.started_at, i.finished_at,
    jsonb_build_object('code', 'canceled', 'message', h.cancel_reason)
  FROM gone g JOIN held h USING (id) JOIN input i USING (id)
  CROSS JOIN LATERAL duework.waiting_steps(g.id, i.state) AS s
  WHERE i.status <> 'timed_out'  -- then their rows are among the steps
)
SELECT e.id AS run_id, h.cancel_reason IS NOT NULL AS canceled, h.concurrency_key, h.key_slot, h.linked
FROM ended e JOIN held h USING (id)
