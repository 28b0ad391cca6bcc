-- Make next months' partitions of history. Promises: rows never wait for a partition. Locks: an advisory
-- key, and the parents briefly. Fence: none.
SELECT duework.ensure_partitions() AS made
