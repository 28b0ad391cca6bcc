-- Hold still some numbers of concurrency keys: whoever frees one and whoever is about to make rows wait for one come
-- by here, one after the other, so that no wake-up falls between them.
-- Promises: the numbers from `low` to `high` of each key that are taken once the locks are held, by (key, slot).
-- Locks: FOR UPDATE in the order of (key, slot), which every caller keeps, so that two of them cannot block each
-- other. Fence: the lock.
SELECT s.key, s.slot, s.run_id
FROM unnest(%(keys)s::text[], %(low)s::integer[], %(high)s::integer[]) AS i(key, low, high)
JOIN duework.concurrency_slot s ON s.key = i.key AND s.slot BETWEEN i.low AND i.high
ORDER BY s.key, s.slot
FOR UPDATE OF s
