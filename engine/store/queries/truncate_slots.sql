-- Free the storage of drained slots. Promises, locks, fence: those of duework.truncate_slot
-- (migrations/sql/0001_tables.sql), one slot after the other.
SELECT s.slot, duework.truncate_slot(s.slot) AS done FROM duework.due_work_slot s WHERE s.state = 'draining'
