-- Write instants that will not run into the ledger, as ranges with their reason.
-- Promises: an instant that is in the ledger already keeps its row. Locks: the new keys.
-- Fence: the primary key (task_id, scheduled_for).
INSERT INTO duework.occurrence (task_id, scheduled_for, last_for, count, disposition, reason)
SELECT i.task_id, i.first_for, nullif(i.last_for, i.first_for), i.count, i.disposition, i.reason
FROM unnest(%(task_id)s::uuid[], %(first_for)s::timestamptz[], %(last_for)s::timestamptz[], %(count)s::bigint[],
            %(disposition)s::text[], %(reason)s::text[])
  AS i(task_id, first_for, last_for, count, disposition, reason)
ON CONFLICT (task_id, scheduled_for) DO NOTHING
