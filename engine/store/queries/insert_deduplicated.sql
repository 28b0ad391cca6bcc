-- Write instants for which another run stands into the ledger.
-- Promises: the reason names that run; an instant that is in the ledger already keeps its row. Locks: the new keys.
-- Fence: the primary key (task_id, scheduled_for).
INSERT INTO duework.occurrence (task_id, scheduled_for, disposition, reason)
SELECT i.task_id, i.at, 'deduplicated',
       'run ' || coalesce(h.run_id::text, 'of the same instant') || ' stands for it: it has the same dedupe key'
FROM unnest(%(task_id)s::uuid[], %(key)s::text[], %(at)s::timestamptz[], %(stands_at)s::timestamptz[])
  AS i(task_id, key, at, stands_at)
LEFT JOIN duework.dedupe_key h ON h.task_id = i.task_id AND h.key = i.key AND h.at = i.stands_at
ON CONFLICT (task_id, scheduled_for) DO NOTHING
