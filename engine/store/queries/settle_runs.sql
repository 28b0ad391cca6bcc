-- End runs: one statement for the whole batch (group commit).
-- Promises: a run is settled exactly once; history appears in the same commit that removes the row; an
-- input whose fence is stale changes nothing and is missing from the answer. So is, unless it is asked for (`linked`),
-- a run that waits are about: those have to be told in the same transaction, and the others need none.
-- The batch comes as one JSON text: arrays, one per column, cost the worker twice as much to write. Each run brings its
-- steps, and the DELETE hands on what it was joined with, so that nothing of a batch is joined with the batch again.
-- Locks: the due_work rows deleted. Fence: (id, fence), and only while it is leased; the DELETE is the guard
-- that the inserts hang on, which is why task_run needs no unique key across partitions.
WITH gone AS (
  DELETE FROM duework.due_work w
  USING jsonb_to_recordset(%(runs)s::jsonb)
    AS i(id uuid, fence bigint, status text, started_at timestamptz, finished_at timestamptz,
         error jsonb, output jsonb, steps jsonb)
  WHERE w.id = i.id AND w.fence = i.fence AND w.locked_until IS NOT NULL
    AND (%(linked)s OR NOT w.linked)
  RETURNING w.id, w.attempt, w.task_id, w.task_version, w.trigger, w.scheduled_for, w.params, w.event,
            w.locked_by, w.fence, w.parent_run_id, w.concurrency_key, w.key_slot, w.linked,
            i.status, i.started_at, i.finished_at, i.error, i.output, i.steps
), runs AS (
  INSERT INTO duework.task_run (run_id, attempt, task_id, task_version, trigger, scheduled_for, params, event,
    status, final, started_at, finished_at, error, output, worker, fence, parent_run_id)
  SELECT g.id, g.attempt, g.task_id, g.task_version, g.trigger, g.scheduled_for, g.params, g.event,
    g.status, true, g.started_at, g.finished_at, g.error, g.output, g.locked_by, g.fence, g.parent_run_id
  FROM gone g
), steps AS (
  INSERT INTO duework.step_run (run_id, attempt, position, step, item, tool, status, tries, started_at,
    finished_at, input, output, error, verdict)
  SELECT g.id, s.attempt, s.position, s.step, s.item, s.tool, s.status, s.tries, s.started_at,
    s.finished_at, s.input, s.output, s.error, s.verdict
  FROM gone g CROSS JOIN LATERAL jsonb_to_recordset(g.steps)
    AS s(attempt integer, position integer, step text, item integer, tool text, status text,
         tries integer, started_at timestamptz, finished_at timestamptz, input jsonb, output jsonb, error jsonb,
         verdict jsonb)
)
SELECT id AS run_id, concurrency_key, key_slot, linked FROM gone
