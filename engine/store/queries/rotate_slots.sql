-- Make an empty slot the writing one when the current one is old enough. Promises, locks, fence: those of
-- duework.rotate_slots (migrations/sql/0001_tables.sql). Null when there was nothing to do.
SELECT duework.rotate_slots(%(older_than)s) AS writing
