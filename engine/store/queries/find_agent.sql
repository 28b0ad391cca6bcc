-- The agent that a token's digest belongs to. Promises: nothing for revoked or expired tokens and inactive
-- agents. Locks: none. Fence: none.
SELECT a.id, a.name, a.scopes
FROM duework.agent_token k JOIN duework.agent a ON a.id = k.agent_id
WHERE k.digest = %(digest)s AND k.revoked_at IS NULL AND a.active
  AND (k.expires_at IS NULL OR k.expires_at > now())
