-- Everything that 0004 made. The lines stay; that some were dropped is no longer known.
DROP VIEW duework.audit;
CREATE VIEW duework.audit AS
SELECT a.id, a.at, a.actor, a.action, a.subject, a.request_id, a.details FROM duework.audit_log a;
COMMENT ON VIEW duework.audit IS 'Who changed what; append-only';
COMMENT ON COLUMN duework.audit.id IS 'Order of writing';
COMMENT ON COLUMN duework.audit.at IS 'When';
COMMENT ON COLUMN duework.audit.actor IS 'The agent''s name, or the process';
COMMENT ON COLUMN duework.audit.action IS 'What was done, as noun.verb';
COMMENT ON COLUMN duework.audit.subject IS 'To what, as noun:id';
COMMENT ON COLUMN duework.audit.request_id IS 'The request that did it';
COMMENT ON COLUMN duework.audit.details IS 'What changed; never values that the gate would stop';
GRANT SELECT ON duework.audit TO duework_reader;
DROP TRIGGER audit_log_append_only ON duework.audit_log;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON duework.audit_log
  FOR EACH ROW EXECUTE FUNCTION duework.refuse_change();
DROP FUNCTION duework.drop_audit, duework.audit_faults, duework.seal_audit, duework.audit_digest;
ALTER TABLE duework.audit_log DROP COLUMN seal;
DROP TABLE duework.audit_seal;
DROP FUNCTION duework.guard_audit, duework.guard_seal;
