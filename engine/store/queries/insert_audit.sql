-- One line in the audit log. Promises: appears with the change it describes, or not at all. Locks: none that
-- another writer waits for (hash chaining is left to a sealer over committed rows). Fence: none.
INSERT INTO duework.audit_log (actor, action, subject, request_id, details)
VALUES (%(actor)s, %(action)s, %(subject)s, %(request_id)s, %(details)s)
