-- Say what follows from a probe: the pipeline, where the condition has turned true, else nothing.
-- Promises: of all probes of a task that are under way at once, one fires for each turn from not true to true; an
-- instant older than the last one that had a say, or of an older version of the task, has none. What fires has its
-- record kept in the same commit, so that no later attempt asks again; asked twice, it gives the same answer. What
-- does not fire is gone from the queue, and its instant stays in the ledger as skipped: joined to the range right
-- before it if that has the same reason, this month and since the last change of the task; on its own and with its
-- run_id where the run has attempts in history, a cancellation was promised, or the task was changed meanwhile.
-- Locks: the due_work row, then the task row; ledger rows without a run are written under the task's lock alone.
-- Fence: (id, fence), and only while it is leased.
WITH held AS MATERIALIZED (
  SELECT w.id, w.slot, w.task_id, w.task_version, w.scheduled_for, w.attempt, w.fence, w.cancel_reason,
         w.concurrency_key, w.key_slot, w.linked
  FROM duework.due_work w
  WHERE w.id = %(run_id)s AND w.fence = %(fence)s AND w.locked_until IS NOT NULL AND w.trigger = 'condition'
  FOR UPDATE
), asked AS MATERIALIZED (
  SELECT h.*, t.updated_at,
         t.status = 'active' AND t.version = h.task_version AND h.attempt = 1 AND h.cancel_reason IS NULL AS joins,
         CASE WHEN EXISTS (SELECT FROM duework.checkpoint c WHERE c.run_id = h.id AND c.step = %(step)s) THEN 'repeated'
              WHEN t.version <> h.task_version OR h.scheduled_for <= t.condition_at THEN 'superseded'
              WHEN NOT %(met)s THEN 'false'
              WHEN t.condition_met THEN 'still_true'
              ELSE 'fired' END AS decision
  FROM held h JOIN duework.task t ON t.id = h.task_id
  FOR NO KEY UPDATE OF t
), stated AS (
  UPDATE duework.task t SET condition_met = %(met)s, condition_at = a.scheduled_for
  FROM asked a WHERE t.id = a.task_id AND a.decision IN ('false', 'still_true', 'fired')
), kept AS (
  INSERT INTO duework.checkpoint (run_id, step, attempt, fence, record)
  SELECT a.id, %(step)s, a.attempt, a.fence, %(record)s FROM asked a WHERE a.decision = 'fired'
), quiet AS (
  SELECT a.*, CASE a.decision WHEN 'false' THEN 'the condition was false'
                              WHEN 'still_true' THEN 'the condition was still true'
                              ELSE 'superseded by a later probe or a change of the task' END AS reason
  FROM asked a WHERE a.decision IN ('false', 'still_true', 'superseded')
), gone AS (
  DELETE FROM duework.due_work w USING quiet q WHERE w.id = q.id AND w.slot + 0 = q.slot
  RETURNING w.id, w.key_slot
), grown AS (
  UPDATE duework.occurrence o SET last_for = q.scheduled_for, count = o.count + 1
  FROM quiet q
  CROSS JOIN LATERAL (
    SELECT p.scheduled_for
    FROM duework.occurrence p
    WHERE p.task_id = q.task_id AND p.scheduled_for < q.scheduled_for
      AND p.scheduled_for >= date_trunc('month', q.scheduled_for, 'UTC')
    ORDER BY p.scheduled_for DESC
    LIMIT 1
  ) before
  WHERE o.task_id = q.task_id AND o.scheduled_for = before.scheduled_for AND q.joins
    AND o.scheduled_for > q.updated_at AND o.disposition = 'skipped' AND o.reason = q.reason
    AND o.run_id IS NULL AND o.count IS NOT NULL
  RETURNING q.task_id, q.scheduled_for
), joined AS (
  DELETE FROM duework.occurrence o USING grown g
  WHERE o.task_id = g.task_id AND o.scheduled_for = g.scheduled_for
), skipped AS (
  UPDATE duework.occurrence o
  SET disposition = 'skipped', reason = q.reason, run_id = CASE WHEN q.joins THEN NULL ELSE q.id END
  FROM quiet q
  WHERE o.task_id = q.task_id AND o.scheduled_for = q.scheduled_for AND NOT EXISTS (SELECT FROM grown)
)
SELECT CASE a.decision WHEN 'repeated' THEN 'fired' ELSE a.decision END AS decision,
       a.id AS run_id, a.concurrency_key, g.key_slot, g.id IS NOT NULL AND a.linked AS linked
FROM asked a LEFT JOIN gone g ON g.id = a.id
