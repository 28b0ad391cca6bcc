-- Drop the months of history that are older than the retention. Promises, locks, fence: those of
-- duework.drop_partitions (migrations/sql/0001_tables.sql).
SELECT duework.drop_partitions(%(older_than)s) AS gone
