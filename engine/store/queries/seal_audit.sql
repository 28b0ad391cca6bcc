-- Seal committed lines of the audit log as one batch. Promises: each line once, whoever else seals.
-- Locks: an advisory lock, tried and not waited for. Fence: the seal's number.
SELECT duework.seal_audit(%(limit)s) AS lines
