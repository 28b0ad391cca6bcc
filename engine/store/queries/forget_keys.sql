-- Drop keys older than a day. Promises: none younger. Locks: the rows deleted. Fence: none.
DELETE FROM duework.idempotency_key WHERE created_at < now() - interval '24 hours'
