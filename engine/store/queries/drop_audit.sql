-- Drop old lines of the audit log, batch by batch; their seals stay. Promises: none goes that does not fit its seal.
-- Locks: the sealer's advisory lock. Fence: none.
SELECT duework.drop_audit(%(older_than)s) AS gone
