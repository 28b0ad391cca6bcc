-- Take a mark back. Promises: nothing for one that is revoked already or unknown. Locks: its row. Fence: revoked_at.
UPDATE duework.allowance SET revoked_at = now(), revoked_by = %(by)s
WHERE id = %(id)s AND revoked_at IS NULL
RETURNING id
