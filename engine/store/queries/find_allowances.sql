-- The marks that count now. Promises: those neither revoked nor expired by the database's clock, with the time that each
-- has left (null: no end). Locks: none. Fence: none.
SELECT id, task_id, kind, digest, pattern, expires_at - coalesce(%(now)s::timestamptz, now()) AS left
FROM duework.allowance
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > coalesce(%(now)s::timestamptz, now()))
ORDER BY id
