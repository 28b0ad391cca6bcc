-- Seals of the audit log: lines that have been committed are put together in batches, and each batch's digest holds that
-- of the batch before it (docs/explanation/audit.md). A line that is changed, removed or slipped into a sealed batch, and a
-- seal that is changed or taken out, no longer fit.
-- Promises: a line is sealed once, and sealed lines never change. A writer waits for nobody: lines get their seal after
-- their commit, whatever order that came in, so no line can be passed over by a transaction that lasts long.
-- Locks: an advisory lock makes one sealer of many; rows of the batch. Fence: the primary key of the seal.

CREATE TABLE duework.audit_seal (
  number     bigint PRIMARY KEY CHECK (number >= 1),
  previous   bytea NOT NULL CHECK (octet_length(previous) = 32),
  digest     bytea NOT NULL CHECK (octet_length(digest) = 32),
  lines      integer NOT NULL CHECK (lines >= 1),
  sealed_at  timestamptz NOT NULL DEFAULT now(),
  dropped_at timestamptz
);
ALTER TABLE duework.audit_log ADD COLUMN seal bigint;
CREATE INDEX audit_log_unsealed ON duework.audit_log (id) WHERE seal IS NULL;
CREATE INDEX audit_log_seal ON duework.audit_log (seal) WHERE seal IS NOT NULL;

CREATE FUNCTION duework.guard_audit() RETURNS trigger LANGUAGE plpgsql AS $$
-- A new line is of now, and not sealed. A line may get its seal, once, and nothing else of it may change; the seal is
-- written after its lines, so that none gets into a batch that is closed. A line may go when its seal says that the batch
-- was dropped: the seal stays, and the chain goes on from it.
BEGIN
  IF TG_OP = 'INSERT' THEN
    NEW.at := now();
    NEW.seal := NULL;
    RETURN NEW;
  ELSIF TG_OP = 'UPDATE' AND OLD.seal IS NULL AND NEW.seal IS NOT NULL
        AND to_jsonb(NEW) - 'seal' = to_jsonb(OLD) - 'seal'
        AND NOT EXISTS (SELECT FROM duework.audit_seal s WHERE s.number = NEW.seal) THEN
    RETURN NEW;
  ELSIF TG_OP = 'DELETE'
        AND EXISTS (SELECT FROM duework.audit_seal s WHERE s.number = OLD.seal AND s.dropped_at IS NOT NULL) THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
    USING ERRCODE = 'restrict_violation', HINT = 'Write a new row that corrects the old one.';
END $$;
DROP TRIGGER audit_log_append_only ON duework.audit_log;
CREATE TRIGGER audit_log_append_only BEFORE INSERT OR UPDATE OR DELETE ON duework.audit_log
  FOR EACH ROW EXECUTE FUNCTION duework.guard_audit();

CREATE FUNCTION duework.guard_seal() RETURNS trigger LANGUAGE plpgsql AS $$
-- A seal stays as it is; that its lines were dropped is written into it once.
BEGIN
  IF TG_OP = 'UPDATE' AND OLD.dropped_at IS NULL AND NEW.dropped_at IS NOT NULL
     AND to_jsonb(NEW) - 'dropped_at' = to_jsonb(OLD) - 'dropped_at' THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER audit_seal_append_only BEFORE UPDATE OR DELETE ON duework.audit_seal
  FOR EACH ROW EXECUTE FUNCTION duework.guard_seal();
CREATE TRIGGER audit_seal_no_truncate BEFORE TRUNCATE ON duework.audit_seal
  FOR EACH STATEMENT EXECUTE FUNCTION duework.refuse_change();

CREATE FUNCTION duework.audit_digest(which bigint, previous bytea) RETURNS bytea
LANGUAGE sql STABLE SET timezone = 'UTC' AS $$
  -- SHA-256 over the digest before and, in the order of ids, each line as a JSON array: what a line says, and nothing of
  -- how it is stored.
  SELECT sha256(previous || convert_to(coalesce(string_agg(
           jsonb_build_array(a.id, extract(epoch FROM a.at)::text, a.actor, a.action, a.subject, a.request_id, a.details)::text,
           E'\n' ORDER BY a.id), ''), 'UTF8'))
  FROM duework.audit_log a WHERE a.seal = which
$$;

CREATE FUNCTION duework.seal_audit(most integer) RETURNS integer LANGUAGE plpgsql AS $$
-- Seal up to `most` lines as one batch; how many there were.
-- Locks: the advisory key, tried and not waited for: somebody else is sealing then. Fence: the seal's number.
DECLARE
  fresh bigint;
  before bytea;
  sealed integer;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('duework.seal_audit')) THEN RETURN 0; END IF;
  SELECT s.number + 1, s.digest INTO fresh, before FROM duework.audit_seal s ORDER BY s.number DESC LIMIT 1;
  IF fresh IS NULL THEN
    fresh := 1;
    before := decode(repeat('00', 32), 'hex');
  END IF;
  -- By place, not by id: for a number of lines that the planner cannot know it would read the whole log to join them.
  UPDATE duework.audit_log a SET seal = fresh
  WHERE a.ctid = ANY (ARRAY(SELECT u.ctid FROM duework.audit_log u WHERE u.seal IS NULL ORDER BY u.id LIMIT most));
  GET DIAGNOSTICS sealed = ROW_COUNT;
  IF sealed > 0 THEN
    INSERT INTO duework.audit_seal (number, previous, digest, lines)
    VALUES (fresh, before, duework.audit_digest(fresh, before), sealed);
  END IF;
  RETURN sealed;
END $$;

CREATE FUNCTION duework.audit_faults() RETURNS TABLE (number bigint, fault text) LANGUAGE sql STABLE AS $$
  -- Everything in the log that does not fit its seals; no row when all is as it was written.
  -- Promises: each sealed batch is read whole and once. Locks: none. Fence: none.
  SELECT s.number,
         CASE WHEN s.number <> s.place THEN 'the seal before it is gone'
              WHEN s.previous IS DISTINCT FROM s.expected THEN 'it does not follow the seal before it'
              WHEN l.lines <> s.lines THEN format('%s lines instead of %s', l.lines, s.lines)
              WHEN duework.audit_digest(s.number, s.previous) <> s.digest THEN 'a line, or the seal, was changed'
         END AS fault
  FROM (SELECT q.number, q.previous, q.digest, q.dropped_at, CASE WHEN q.dropped_at IS NULL THEN q.lines ELSE 0 END AS lines,
               coalesce(lag(q.number) OVER w, 0) + 1 AS place,
               coalesce(lag(q.digest) OVER w, decode(repeat('00', 32), 'hex')) AS expected
        FROM duework.audit_seal q WINDOW w AS (ORDER BY q.number)) s
  CROSS JOIN LATERAL (SELECT count(*) AS lines FROM duework.audit_log a WHERE a.seal = s.number) l
  WHERE s.number <> s.place OR s.previous IS DISTINCT FROM s.expected
     OR l.lines <> s.lines
     OR (s.dropped_at IS NULL AND duework.audit_digest(s.number, s.previous) <> s.digest)
  UNION ALL
  SELECT a.seal, 'its seal is gone'
  FROM duework.audit_log a
  WHERE a.seal IS NOT NULL AND NOT EXISTS (SELECT FROM duework.audit_seal s WHERE s.number = a.seal)
  GROUP BY a.seal
  ORDER BY 1
$$;

CREATE FUNCTION duework.drop_audit(older_than interval) RETURNS bigint LANGUAGE plpgsql AS $$
-- Drop the lines of batches that were sealed longer ago than that, some 20,000 of them at once; how many lines went.
-- Promises: the seals stay, so that the lines after them can be held against them for ever; a batch goes whole, and only
-- while it fits its seal: what was tampered with is not covered up. Locks: the sealer's. Fence: none.
DECLARE
  gone bigint := 0;
  part bigint;
  batch record;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('duework.seal_audit')) THEN RETURN 0; END IF;
  FOR batch IN
    SELECT s.number, s.previous, s.digest FROM duework.audit_seal s
    WHERE s.dropped_at IS NULL AND s.sealed_at < now() - older_than ORDER BY s.number LIMIT 1000
  LOOP
    EXIT WHEN duework.audit_digest(batch.number, batch.previous) <> batch.digest;
    UPDATE duework.audit_seal s SET dropped_at = now() WHERE s.number = batch.number;
    DELETE FROM duework.audit_log a WHERE a.seal = batch.number;
    GET DIAGNOSTICS part = ROW_COUNT;
    gone := gone + part;
    EXIT WHEN gone >= 20000; -- the whole past in one statement would end at its timeout, and begin anew for ever
  END LOOP;
  IF gone > 0 THEN
    INSERT INTO duework.audit_log (actor, action, subject, details)
    VALUES ('retention', 'audit.dropped', 'audit:log', jsonb_build_object('lines', gone));
  END IF;
  RETURN gone;
END $$;

CREATE OR REPLACE VIEW duework.audit AS
SELECT a.id, a.at, a.actor, a.action, a.subject, a.request_id, a.details, a.seal FROM duework.audit_log a;
COMMENT ON COLUMN duework.audit.seal IS 'The batch that it is sealed in; null for the last few seconds';
