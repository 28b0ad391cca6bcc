-- Mark a false positive. Promises: nothing where as many marks stand as `most` says, so that a gate has a bounded list to
-- compare with (two at the same moment may exceed it by one). Locks: none beyond the new row. Fence: none.
INSERT INTO duework.allowance (task_id, kind, digest, pattern, reason, author, expires_at)
SELECT %(task_id)s, %(kind)s, %(digest)s, %(pattern)s, %(reason)s, %(author)s,
       coalesce(%(expires_at)s::timestamptz, now() + %(lasts)s::interval)
WHERE (SELECT count(*) FROM duework.allowance
       WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())) < %(most)s
RETURNING id
