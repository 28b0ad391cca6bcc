-- The marks that count now. Promises: those neither revoked nor expired by the database's clock, with the time that each
-- has left (null: no end). Locks: none. Fence: none.
SELECT a.id, a.task_id, t.name AS task, a.kind, a.digest, a.pattern,
       a.expires_at - coalesce(%(now)s::timestamptz, now()) AS left
FROM duework.allowance a LEFT JOIN duework.task t ON t.id = a.task_id
WHERE a.revoked_at IS NULL AND (a.expires_at IS NULL OR a.expires_at > coalesce(%(now)s::timestamptz, now()))
ORDER BY a.id
