-- The first answer to a keyed request, and whether this transaction may give one.
-- Promises: mine is false while another transaction works under the same key. Locks: an advisory key, tried
-- and not waited for, until the transaction ends, so that a crash frees it. Fence: insert_key's primary key.
SELECT pg_try_advisory_xact_lock(hashtextextended(%(agent_id)s::text || ' ' || %(key)s, 0)) AS mine,
       k.request, k.status, k.headers, k.body
FROM (SELECT 1) AS one
LEFT JOIN duework.idempotency_key k
  ON k.agent_id = %(agent_id)s AND k.key = %(key)s AND k.created_at > now() - interval '24 hours'
