-- Take back leases that ran out: their workers are dead, stopped or cut off.
-- Promises: each lost attempt is one task_run row with status expired; the run is available again, or after
-- its last attempt ended as dead, with a row for each step that waited. A run with on_failure steps gets one lease
-- more, whose state leaves it nothing else to do (`failure`); it is dead when that lease ends, or is lost. Locks: FOR UPDATE SKIP LOCKED on the rows reaped.
-- Fence: a new one is drawn, so that the old holder's every write is refused from this commit on.
WITH lost AS MATERIALIZED (
  SELECT w.id, w.slot, w.attempt, w.fence, w.locked_by, w.locked_until, w.cancel_reason,
         w.concurrency_key, w.key_slot, w.linked, w.state,
         w.attempt - coalesce((w.state #>> '{released,count}')::integer, 0)
           >= coalesce((v.definition #>> '{retry,max_attempts}')::numeric, 1) + %(grace)s AS spent,
         coalesce(jsonb_path_exists(v.definition, '$.on_failure[0]'), false)
           AND NOT coalesce(w.state ? 'failure', false) AS mourned,
         jsonb_build_object('code', CASE WHEN w.cancel_reason IS NULL THEN 'lease_expired' ELSE 'canceled' END,
           'message', coalesce(w.cancel_reason, 'the worker ' || w.locked_by || ' stopped renewing its lease'))
           AS error
  FROM duework.due_work w
  LEFT JOIN duework.task_version v ON v.task_id = w.task_id AND v.version = w.task_version
  WHERE w.slot >= 0 AND w.locked_until < coalesce(%(now)s::timestamptz, now())
  LIMIT %(limit)s
  FOR UPDATE OF w SKIP LOCKED
), back AS (
  UPDATE duework.due_work w
  SET locked_until = NULL, locked_by = NULL, fence = nextval('duework.fence'),
      run_at = coalesce(%(now)s::timestamptz, now()),
      slot = duework.slot_for(coalesce(%(now)s::timestamptz, now()), coalesce(%(now)s::timestamptz, now())),
      state = CASE WHEN l.spent THEN jsonb_strip_nulls(jsonb_build_object(
                     'later', coalesce(w.state -> 'steps', w.state -> 'later'), 'usage', w.state -> 'usage',
                     'failure', jsonb_build_object('status', 'expired', 'error', l.error)))
                   ELSE w.state END
  FROM lost l
  WHERE w.id = l.id AND w.slot + 0 = l.slot AND (NOT l.spent OR l.mourned) AND l.cancel_reason IS NULL
  RETURNING w.id, w.task_id, w.task_version, w.trigger, w.scheduled_for, w.params, w.event, w.parent_run_id,
            false AS final
), dead AS (
  DELETE FROM duework.due_work w
  USING lost l
  WHERE w.id = l.id AND w.slot + 0 = l.slot AND (l.spent AND NOT l.mourned OR l.cancel_reason IS NOT NULL)
  RETURNING w.id, w.task_id, w.task_version, w.trigger, w.scheduled_for, w.params, w.event, w.parent_run_id,
            true AS final
), waited AS (
  INSERT INTO duework.step_run (run_id, attempt, position, step, item, tool, status, tries, started_at, finished_at, error)
  SELECT l.id, l.attempt, s.position, s.step, s.item, s.tool, 'canceled', s.tries, s.started_at,
    coalesce(%(now)s::timestamptz, now()), l.error
  FROM dead d JOIN lost l USING (id) CROSS JOIN LATERAL duework.waiting_steps(l.id, l.state) AS s
), ended AS (
  SELECT * FROM back UNION ALL SELECT * FROM dead
), runs AS (
  INSERT INTO duework.task_run (run_id, attempt, task_id, task_version, trigger, scheduled_for, params, event,
    status, final, finished_at, error, worker, fence, parent_run_id)
  SELECT e.id, l.attempt, e.task_id, e.task_version, e.trigger, e.scheduled_for, e.params, e.event,
    CASE WHEN l.cancel_reason IS NULL THEN 'expired' ELSE 'canceled' END, e.final,
    coalesce(%(now)s::timestamptz, now()),
    l.error, l.locked_by, l.fence, e.parent_run_id
  FROM ended e JOIN lost l USING (id)
)
SELECT e.id AS run_id, e.final, l.locked_by AS worker, l.attempt, e.task_id, e.trigger, l.concurrency_key, l.key_slot,
       l.linked
FROM ended e JOIN lost l USING (id)
