-- Keep the first answer to a keyed request, in the transaction that did the work.
-- Promises: the work and its answer commit together; a key older than a day is taken over. Locks: the row.
-- Fence: the primary key (agent_id, key); no row comes back when somebody else answered meanwhile.
INSERT INTO duework.idempotency_key AS k (agent_id, key, request, status, headers, body)
VALUES (%(agent_id)s, %(key)s, %(request)s, %(status)s, %(headers)s, %(body)s)
ON CONFLICT (agent_id, key) DO UPDATE
  SET request = excluded.request, status = excluded.status, headers = excluded.headers, body = excluded.body,
      created_at = now()
  WHERE k.created_at <= now() - interval '24 hours'
RETURNING k.key
