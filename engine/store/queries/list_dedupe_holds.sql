-- The runs that stand for others under these keys, and away with those that no longer do.
-- Promises: with a window, those whose instant lies within it of the instants asked about, while they are queued or
-- once they have begun; without one, those that are live. A run that was withdrawn, missed, skipped, or canceled before
-- it began is in neither place. Locks: the rows deleted. Fence: lock_dedupe_keys, which the caller holds.
WITH held AS MATERIALIZED (
  SELECT h.task_id, h.key, h.at, h.run_id,
         EXISTS (SELECT FROM duework.due_work d WHERE d.id = h.run_id)
         OR (i.near IS NOT NULL AND EXISTS (
           SELECT FROM duework.task_run r
           WHERE r.run_id = h.run_id AND r.final AND r.status <> 'skipped'
             AND (r.status <> 'canceled' OR r.started_at IS NOT NULL))) AS stands
  FROM unnest(%(task_id)s::uuid[], %(key)s::text[], %(first_at)s::timestamptz[], %(last_at)s::timestamptz[],
              %(near)s::interval[]) AS i(task_id, key, first_at, last_at, near)
  JOIN duework.dedupe_key h ON h.task_id = i.task_id AND h.key = i.key
    AND (i.near IS NULL OR (h.at > i.first_at - i.near AND h.at < i.last_at + i.near))
), gone AS (
  DELETE FROM duework.dedupe_key k USING held h
  WHERE k.task_id = h.task_id AND k.key = h.key AND k.at = h.at AND NOT h.stands
)
SELECT h.task_id, h.key, h.at, h.run_id FROM held h WHERE h.stands ORDER BY h.at
