-- Put a blocked run back into the queue, with what was released of it.
-- Promises: it goes on from the steps that it had done, as the same run, at once or not at all; each of those steps is in
-- history once, as a checkpoint from here on; its blocked attempt stays there, and is its end no longer. It waits for its
-- concurrency key rather than be skipped or end another, and it cannot be missed.
-- Locks: the held_run row, then the rows of history that it changes. Fence: `decision` is null under that lock; the new
-- row of the queue draws a fence, so that its lease looks for checkpoints.
WITH held AS MATERIALIZED (
  SELECT h.*, nextval('duework.fence') AS fence, coalesce(%(now)s::timestamptz, now()) AS at,
         jsonb_build_object('count', coalesce((h.state #>> '{released,count}')::integer, 0) + 1, 'digests',
           coalesce(h.state #> '{released,digests}', '[]') || to_jsonb(%(released)s::text[])) AS carried
  FROM duework.held_run h
  WHERE h.run_id = %(run_id)s AND h.attempt = %(attempt)s AND h.decision IS NULL
  FOR UPDATE
), ended AS (
  UPDATE duework.task_run r SET final = false
  FROM held h
  WHERE r.run_id = h.run_id AND r.attempt = h.attempt AND r.final AND r.status = 'blocked'
  RETURNING r.run_id, r.trigger, r.scheduled_for, r.params, r.event, r.parent_run_id
), done AS MATERIALIZED (
  SELECT h.run_id, h.fence, r.record ->> 'step' AS step, coalesce((r.record ->> 'item')::integer, -1) AS item,
         (r.record ->> 'attempt')::integer AS attempt, r.record
  FROM held h JOIN ended e USING (run_id) CROSS JOIN LATERAL jsonb_array_elements(h.records) AS r(record)
), moved AS (
  DELETE FROM duework.step_run s USING done d
  WHERE s.run_id = d.run_id AND s.attempt = d.attempt AND s.step = d.step AND coalesce(s.item, -1) = d.item
    AND d.record ->> 'status' <> 'running'
), kept AS (
  INSERT INTO duework.checkpoint (run_id, step, item, attempt, fence, record)
  SELECT d.run_id, d.step, d.item, d.attempt, d.fence, d.record FROM done d
  ON CONFLICT (run_id, step, item) DO UPDATE SET record = excluded.record, fence = excluded.fence,
    attempt = excluded.attempt
), queued AS (
  INSERT INTO duework.due_work (id, slot, task_id, task_version, trigger, scheduled_for, run_at, priority, attempt, fence,
    params, event, state, parent_run_id, created_by, concurrency_key, concurrency_limit, on_conflict)
  SELECT h.run_id, duework.slot_for(h.at, h.at), h.task_id, h.task_version, e.trigger, e.scheduled_for, h.at, h.priority,
         h.attempt, h.fence, e.params, e.event, h.state || jsonb_build_object('released', h.carried), e.parent_run_id,
         h.created_by, h.concurrency_key, h.concurrency_limit, CASE WHEN h.concurrency_key IS NOT NULL THEN 'queue' END
  FROM held h JOIN ended e USING (run_id)
  RETURNING id
)
UPDATE duework.held_run r
SET decision = 'released', decided_at = h.at, decided_by = %(by)s, reason = %(reason)s, released = %(released)s::text[],
    records = NULL, state = NULL
FROM held h JOIN queued q ON q.id = h.run_id
WHERE r.run_id = h.run_id AND r.attempt = h.attempt
RETURNING r.run_id
