-- Numbers that are free although rows wait for their key: a wake-up that met a row which was locked at that moment.
-- Promises: at most one number per key, and up to %(limit)s keys; each key costs two index look-ups and a few rows,
-- however many wait for it. With different limits under one key the next in line may not be allowed the number that is
-- free, and somebody behind may: the next ten are looked at.
-- Locks: none. Fence: none; wake_waiting takes a number only while it is free.
WITH RECURSIVE keys AS (
  (SELECT w.concurrency_key AS key, 1 AS many FROM duework.due_work w
   WHERE w.slot = -1 AND w.concurrency_key > '' AND w.waiting ORDER BY w.concurrency_key LIMIT 1)
  UNION ALL
  SELECT (SELECT w.concurrency_key FROM duework.due_work w
          WHERE w.slot = -1 AND w.concurrency_key > k.key AND w.waiting ORDER BY w.concurrency_key LIMIT 1), k.many + 1
  FROM keys k WHERE k.key IS NOT NULL AND k.many < %(limit)s
)
SELECT k.key, f.slot
FROM keys k
CROSS JOIN LATERAL (
  SELECT max(n.most) AS most
  FROM (SELECT w.concurrency_limit AS most FROM duework.due_work w
        WHERE w.slot = -1 AND w.waiting AND w.concurrency_key = k.key
        ORDER BY w.priority, w.run_at LIMIT 10) n
) d
CROSS JOIN LATERAL (
  SELECT g.slot FROM generate_series(0, d.most - 1) AS g(slot)
  WHERE NOT EXISTS (SELECT FROM duework.concurrency_slot s WHERE s.key = k.key AND s.slot = g.slot)
  ORDER BY g.slot LIMIT 1
) f
WHERE k.key IS NOT NULL
