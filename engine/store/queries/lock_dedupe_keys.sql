-- Let one transaction at a time decide which runs these keys let in.
-- Promises: what others let in under them is committed, or gone, when this returns; it has to be a statement of its
-- own, because the one that reads must begin after it. Locks: an advisory key each, in one order, until the
-- transaction ends. Fence: none.
SELECT pg_advisory_xact_lock(k.hash)
FROM (SELECT DISTINCT hashtextextended('dedupe ' || i.task_id::text || ' ' || i.key, 0) AS hash
      FROM unnest(%(task_id)s::uuid[], %(key)s::text[]) AS i(task_id, key)
      ORDER BY hash) k
