-- Queue runs that no tick made: run-now, event, backfill, retry, child of a pipeline; one for each of `instants`, which
-- holds a null where the run has none.
-- Promises: the row is leasable when the transaction commits and run_at has come; its id is the run_id.
-- Locks: none beyond the new row. Fence: none yet; the first lease draws it.
INSERT INTO duework.due_work
  (slot, task_id, task_version, trigger, scheduled_for, run_at, expires_at, priority, params, event, parent_run_id, created_by)
SELECT duework.slot_for(w.run_at, w.at), t.id, t.version, %(trigger)s, i.scheduled_for, w.run_at, %(expires_at)s,
       coalesce(%(priority)s, t.priority), %(params)s, %(event)s, %(parent_run_id)s, %(created_by)s
FROM duework.task t, unnest(%(instants)s::timestamptz[]) WITH ORDINALITY AS i(scheduled_for, number),
     LATERAL (SELECT coalesce(%(now)s::timestamptz, now()) AS at,
                     coalesce(%(run_at)s::timestamptz, %(now)s::timestamptz, now())
                       + (i.number - 1) * interval '1 microsecond' AS run_at) w
WHERE t.id = %(task_id)s
RETURNING id AS run_id, task_id, task_version, trigger, scheduled_for, run_at, priority, params, created_at
