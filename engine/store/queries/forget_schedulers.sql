-- Remove scheduler rows: this one's at its end, and those unheard of for a day. Promises, locks, fence: none
-- beyond the rows deleted.
DELETE FROM duework.scheduler WHERE id = %(id)s OR last_tick < now() - interval '1 day'
