-- Remove worker rows: this one's at its end, and those unheard of for a day. Promises: history keeps the
-- worker's name. Locks: the rows deleted. Fence: none.
DELETE FROM duework.worker WHERE id = %(id)s OR last_seen < now() - interval '1 day'
