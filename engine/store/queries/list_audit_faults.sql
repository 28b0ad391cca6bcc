-- What in the audit log does not fit its seals. Promises: no row when everything is as it was written.
-- Locks: none. Fence: none.
SELECT f.number, f.fault FROM duework.audit_faults() f
