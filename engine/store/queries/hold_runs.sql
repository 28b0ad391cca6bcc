-- Keep what blocked runs need to go on should they be released, and what was found.
-- Promises: a run is held exactly if it is settled: to be called in the transaction that settles it, and before, while
-- the row of the queue still says whom the run is for. `attempt` is new with every lease, so a row is never there yet.
-- Locks: the due_work rows, in the order of their ids, until the settlement deletes them. Fence: (id, fence), and only
-- while it is leased.
INSERT INTO duework.held_run (run_id, attempt, task_id, task_version, held_at, findings, priority, concurrency_key,
  concurrency_limit, created_by, records, state)
SELECT w.id, w.attempt, w.task_id, w.task_version, i.held_at, i.findings, w.priority, w.concurrency_key,
       w.concurrency_limit, w.created_by, i.records, i.state
FROM jsonb_to_recordset(%(runs)s::jsonb)
  AS i(id uuid, fence bigint, held_at timestamptz, findings jsonb, records jsonb, state jsonb)
JOIN duework.due_work w ON w.id = i.id AND w.fence = i.fence AND w.locked_until IS NOT NULL
ORDER BY w.id
FOR UPDATE OF w
RETURNING run_id
