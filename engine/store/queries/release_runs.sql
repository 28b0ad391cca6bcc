-- Give leases back that were not used up: a drain, an outage, or a run that parks itself until a later instant.
-- Promises: the attempt does not count, the next lease goes on from the checkpoints, and a row that does not have
-- to wait keeps its place in the queue; one that was started no longer expires, or it could be neither leased nor
-- missed when its window has passed; its number under a concurrency key stays with it; a run whose cancellation was
-- promised meanwhile ends as canceled instead, with a row for each step that waits; runs that waits are about are left out unless they are asked for
-- (`linked`): an answer that has come meanwhile wakes them in the same transaction.
-- Locks: the rows changed. Fence: (id, fence), and only while it is leased; a new fence is drawn so that the old
-- one is dead.
WITH input AS (
  SELECT * FROM jsonb_to_recordset(%(runs)s::jsonb)
    AS i(id uuid, fence bigint, started_at timestamptz, delay double precision, state jsonb)
), held AS (
  SELECT w.id, w.slot, w.run_at, w.cancel_reason, w.locked_by, w.fence, w.attempt,
         w.concurrency_key, w.key_slot, w.linked,
         coalesce(%(now)s::timestamptz, now()) AS at, i.delay, i.state, i.started_at
  FROM duework.due_work w JOIN input i ON w.id = i.id AND w.fence = i.fence AND w.locked_until IS NOT NULL
    AND (%(linked)s OR NOT w.linked)
  FOR UPDATE OF w
), back AS (
  UPDATE duework.due_work w
  SET locked_until = NULL, locked_by = NULL, attempt = w.attempt - 1, fence = nextval('duework.fence'),
      run_at = CASE WHEN h.delay > 0 THEN h.at + make_interval(secs => h.delay) ELSE w.run_at END,
      state = h.state,
      expires_at = CASE WHEN h.started_at IS NULL THEN w.expires_at END,
      slot = duework.slot_for(h.at + make_interval(secs => h.delay), h.at)
  FROM held h
  WHERE w.id = h.id AND w.slot + 0 = h.slot AND h.cancel_reason IS NULL
  RETURNING w.id
), gone AS (
  DELETE FROM duework.due_work w
  USING held h
  WHERE w.id = h.id AND w.slot + 0 = h.slot AND h.cancel_reason IS NOT NULL
  RETURNING w.id, w.task_id, w.task_version, w.trigger, w.scheduled_for, w.params, w.event, w.parent_run_id
), runs AS (
  INSERT INTO duework.task_run (run_id, attempt, task_id, task_version, trigger, scheduled_for, params, event,
    status, final, finished_at, error, worker, fence, parent_run_id)
  SELECT g.id, h.attempt, g.task_id, g.task_version, g.trigger, g.scheduled_for, g.params, g.event,
    'canceled', true, h.at, jsonb_build_object('code', 'canceled', 'message', h.cancel_reason),
    h.locked_by, h.fence, g.parent_run_id
  FROM gone g JOIN held h USING (id)
), steps AS (
  INSERT INTO duework.step_run (run_id, attempt, position, step, item, tool, status, tries, started_at, finished_at, error)
  SELECT h.id, h.attempt, s.position, s.step, s.item, s.tool, 'canceled', s.tries, s.started_at, h.at,
    jsonb_build_object('code', 'canceled', 'message', h.cancel_reason)
  FROM gone g JOIN held h USING (id) CROSS JOIN LATERAL duework.waiting_steps(h.id, h.state) AS s
)
SELECT h.id AS run_id, h.cancel_reason IS NOT NULL AS canceled, h.concurrency_key, h.key_slot, h.linked
FROM held h
