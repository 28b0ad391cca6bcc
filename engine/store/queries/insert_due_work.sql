-- Queue runs that no tick made: run-now, event, backfill, retry, child of a pipeline; one for each of `instants`, which
-- holds a null where the run has none. `run_id` is the id of the only one, where it is known already.
-- Promises: the row is leasable when the transaction commits and run_at has come; its id is the run_id. A task with a
-- dedupe key gets none unless the key was asked (`admitted`), or the run repeats the past; one whose concurrency key is
-- made of the run's own parameters or event gets none without it.
-- Locks: none beyond the new row. Fence: none yet; the first lease draws it.
INSERT INTO duework.due_work
  (id, slot, task_id, task_version, trigger, scheduled_for, run_at, expires_at, priority, params, event, parent_run_id, created_by,
   concurrency_key, concurrency_limit, on_conflict)
SELECT coalesce(%(run_id)s::uuid, duework.uuidv7()), duework.slot_for(w.run_at, w.at), t.id, t.version, %(trigger)s, i.scheduled_for, w.run_at, %(expires_at)s,
       coalesce(%(priority)s, t.priority), %(params)s, %(event)s, %(parent_run_id)s, %(created_by)s,
       k.key, CASE WHEN k.key IS NOT NULL THEN (t.concurrency ->> 'limit')::integer END,
       CASE WHEN k.key IS NULL THEN NULL
            WHEN %(trigger)s = 'backfill' THEN 'queue' -- its runs were asked for, all of them: none makes way
            ELSE t.concurrency ->> 'on_conflict' END
FROM duework.task t, unnest(%(instants)s::timestamptz[]) WITH ORDINALITY AS i(scheduled_for, number),
     LATERAL (SELECT coalesce(%(now)s::timestamptz, now()) AS at,
                     coalesce(%(run_at)s::timestamptz, %(now)s::timestamptz, now())
                       + (i.number - 1) * interval '1 microsecond' AS run_at) w,
     -- A key that was made of a version which has made way for one without a limit is none.
     LATERAL (SELECT CASE WHEN t.concurrency ->> 'on_conflict' <> 'allow'
                          THEN coalesce(%(concurrency_key)s, t.concurrency_key) END AS key) k
WHERE t.id = %(task_id)s
  AND (t.dedupe_key IS NULL OR %(admitted)s OR %(trigger)s IN ('backfill', 'retry'))
  AND (%(concurrency_key)s::text IS NOT NULL OR t.concurrency ->> 'on_conflict' = 'allow'
       OR coalesce(strpos(t.concurrency ->> 'key', '${'), 0) = 0)
RETURNING id AS run_id, task_id, task_version, trigger, scheduled_for, run_at, priority, params, created_at
