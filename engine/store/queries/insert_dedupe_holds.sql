-- Note which runs their keys have let in; a scheduled run's id is read from the ledger.
-- Promises: an instant that became no run holds nothing. Locks: the new rows. Fence: lock_dedupe_keys, which the
-- caller holds; list_dedupe_holds has removed what would be in the way.
INSERT INTO duework.dedupe_key (task_id, key, at, run_id, held_until)
SELECT i.task_id, i.key, i.at, coalesce(i.run_id, o.run_id), i.at + i.near
FROM unnest(%(task_id)s::uuid[], %(key)s::text[], %(at)s::timestamptz[], %(near)s::interval[], %(run_id)s::uuid[])
  AS i(task_id, key, at, near, run_id)
LEFT JOIN duework.occurrence o ON o.task_id = i.task_id AND o.scheduled_for = i.at
WHERE coalesce(i.run_id, o.run_id) IS NOT NULL
