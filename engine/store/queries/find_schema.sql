-- Whether the database holds duework's schema. Promises: an answer without an error either way. Locks: none.
-- Fence: none.
SELECT to_regclass('duework.due_work') IS NOT NULL AS migrated
