-- Promises: a task that SQL spoilt is refused when it is written, since a tick plans many tasks at once.
-- Locks: ACCESS EXCLUSIVE on task while its rows are read once.

ALTER TABLE duework.task
  ADD CONSTRAINT task_schedule_options_object CHECK (jsonb_typeof(schedule_options) = 'object'),
  ADD CONSTRAINT task_schedule_start_finite CHECK (isfinite(schedule_start));

-- What a row of the queue asks of its task, asked of the task already: one that could never become work is refused here
-- and stops no tick. Instants that no client can read are refused as well.
ALTER TABLE duework.task
  ADD CONSTRAINT task_instants CHECK (
    schedule_start BETWEEN '0001-01-01' AND '9999-12-30' AND updated_at BETWEEN '0001-01-02Z' AND '9999-12-30Z'
    AND next_run BETWEEN '0001-01-02Z' AND '9999-12-30Z'),
  ADD CONSTRAINT task_dedupe CHECK (
    length(dedupe_scheduled) BETWEEN 1 AND 500 AND dedupe_window BETWEEN interval '0' AND interval '36525 days'),
  -- Not the other way round: a key that only a run can tell is in its row of the queue alone.
  ADD CONSTRAINT task_concurrency CHECK (concurrency_key IS NULL OR (
    length(concurrency_key) BETWEEN 1 AND 600 AND coalesce((concurrency ->> 'limit')::integer >= 1, false)
    AND coalesce(concurrency ->> 'on_conflict' IN ('skip', 'queue', 'cancel_running'), false)));

-- Why a tick could not plan a task and has set it aside, with next_run null, so that the others went on. Cleared by
-- whatever plans the task anew.
ALTER TABLE duework.task ADD COLUMN schedule_error text;
CREATE INDEX task_set_aside ON duework.task (id) WHERE schedule_error IS NOT NULL;

-- How long after its last tick a scheduler counts as gone; its own word, because its interval is its own.
ALTER TABLE duework.scheduler ADD COLUMN late_after interval NOT NULL DEFAULT '30 seconds';

-- Durable waiting (engine/store/waits.py): what a step of a live run waits for, and what came of it.
-- Promises: a wait is made only by the holder of the run's lease, is answered once, and goes with its run.
-- Locks: ACCESS EXCLUSIVE on due_work for an instant; the default of the new column rewrites nothing.
-- Fence: none here; every statement on these rows names its own.

-- A row of duework.wait names this run, as the one that waits or as the one that is waited for. Whoever ends a run
-- reads it from the row that it deletes, so that ends of all other runs cost nothing.
ALTER TABLE duework.due_work ADD COLUMN linked boolean NOT NULL DEFAULT false;

CREATE TABLE duework.wait (
  run_id       uuid NOT NULL,
  step         text NOT NULL,
  item         integer NOT NULL DEFAULT -1,
  kind         text NOT NULL CHECK (kind IN ('sleep', 'event', 'approval', 'run')),
  topic        text,
  filter       text,
  given        jsonb,
  prompt       text,
  approvers    text[],
  child_run_id uuid,
  created_at   timestamptz NOT NULL DEFAULT now(),
  deadline     timestamptz,
  resolved_at  timestamptz,
  resolved_by  text,
  resolution   jsonb,
  taken_at     timestamptz,
  PRIMARY KEY (run_id, step, item),
  CHECK ((kind = 'event') = (topic IS NOT NULL)),
  CHECK ((kind = 'approval') = (prompt IS NOT NULL)),
  CHECK ((kind = 'run') = (child_run_id IS NOT NULL)),
  CHECK (kind <> 'sleep' OR (deadline IS NOT NULL AND resolved_at IS NULL)),
  CHECK ((resolved_at IS NULL) = (resolution IS NULL) AND (resolved_at IS NULL) = (resolved_by IS NULL))
);
-- Who listens to a topic, and who waits for a run: of those that have no answer yet.
CREATE INDEX wait_topic ON duework.wait (topic) WHERE kind = 'event' AND resolved_at IS NULL;
CREATE INDEX wait_child ON duework.wait (child_run_id) WHERE child_run_id IS NOT NULL AND resolved_at IS NULL;

CREATE VIEW duework.waits AS
SELECT v.run_id, d.task_id, t.name AS task, v.step, nullif(v.item, -1) AS item, v.kind, v.topic, v.filter, v.prompt,
       v.approvers, v.child_run_id, v.created_at AS since, v.deadline AS until, v.resolved_at, v.resolved_by
FROM duework.wait v
JOIN duework.due_work d ON d.id = v.run_id
LEFT JOIN duework.task t ON t.id = d.task_id;
COMMENT ON VIEW duework.waits IS 'What steps of live runs wait for, or have waited for; it goes when the run ends';
COMMENT ON COLUMN duework.waits.run_id IS 'The run that waits';
COMMENT ON COLUMN duework.waits.task_id IS 'Its task';
COMMENT ON COLUMN duework.waits.task IS 'The task''s name';
COMMENT ON COLUMN duework.waits.step IS 'The step that waits';
COMMENT ON COLUMN duework.waits.item IS 'Index within foreach; null otherwise';
COMMENT ON COLUMN duework.waits.kind IS 'sleep, event, approval or run';
COMMENT ON COLUMN duework.waits.topic IS 'The topic of an event, perhaps with *';
COMMENT ON COLUMN duework.waits.filter IS 'What the event must be like';
COMMENT ON COLUMN duework.waits.prompt IS 'What a person is asked to approve';
COMMENT ON COLUMN duework.waits.approvers IS 'The agents that may decide; null: whoever may write runs';
COMMENT ON COLUMN duework.waits.child_run_id IS 'The run whose end is waited for';
COMMENT ON COLUMN duework.waits.since IS 'When the wait began';
COMMENT ON COLUMN duework.waits.until IS 'When it ends without an answer; null: never';
COMMENT ON COLUMN duework.waits.resolved_at IS 'When the answer came; null while it is waited for';
COMMENT ON COLUMN duework.waits.resolved_by IS 'Who or what gave it: an agent, event:<id> or run:<id>';
GRANT SELECT ON duework.waits TO duework_reader;

-- The steps and items that a run's state says are waiting: what becomes of them is to be written when the run ends.
-- Promises: none that a checkpoint says has ended. States of before this version name no tool, and give no row.
-- Locks: none. Fence: the caller's.
CREATE FUNCTION duework.waiting_steps(run uuid, state jsonb)
RETURNS TABLE ("position" integer, step text, item integer, tool text, tries integer, started_at timestamptz)
LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT (s.wait ->> 'position')::integer, k.step, k.item, s.wait ->> 'tool', (s.wait ->> 'tries')::integer,
         (s.wait ->> 'started_at')::timestamptz
  FROM jsonb_each(coalesce(state -> 'steps', state -> 'later')) AS s(key, wait)
  CROSS JOIN LATERAL (
    SELECT split_part(s.key, ':', 1) AS step, nullif(split_part(s.key, ':', 2), '')::integer AS item
  ) k
  WHERE s.wait ->> 'tool' IS NOT NULL
    AND NOT EXISTS (SELECT FROM duework.checkpoint c
                    WHERE c.run_id = run AND c.step = k.step AND c.item = coalesce(k.item, -1)
                      AND c.record ->> 'status' <> 'running');
END;

-- Limits of tools that all hosts share (engine/store/limits.py): when the next call may be, who calls now, and which
-- tools are left alone. Few rows, updated in place: without an index on what changes, an update is a new version in
-- the same page.
-- Promises: a number is held once; an open breaker says until when. Locks: none. Fence: held_by with taken_at, probe.
CREATE TABLE duework.rate_bucket (
  tool        text PRIMARY KEY,
  next_at     timestamptz NOT NULL DEFAULT '-infinity',
  promised_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);

CREATE TABLE duework.tool_slot (
  tool       text NOT NULL,
  slot       integer NOT NULL CHECK (slot >= 0),
  held_by    text,
  taken_at   timestamptz,
  held_until timestamptz,
  PRIMARY KEY (tool, slot),
  CHECK ((held_by IS NULL) = (taken_at IS NULL) AND (held_by IS NULL) = (held_until IS NULL))
) WITH (fillfactor = 50);

CREATE TABLE duework.tool_breaker (
  tool        text PRIMARY KEY,
  state       text NOT NULL DEFAULT 'closed' CHECK (state IN ('closed', 'open', 'half_open')),
  failures    integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
  successes   integer NOT NULL DEFAULT 0 CHECK (successes >= 0),
  open_until  timestamptz,
  probe       uuid,
  probe_until timestamptz,
  changed_at  timestamptz NOT NULL DEFAULT now(),
  CHECK ((state = 'open') = (open_until IS NOT NULL)),
  CHECK (probe IS NULL OR state = 'half_open'),
  CHECK ((probe IS NULL) = (probe_until IS NULL))
) WITH (fillfactor = 50);

-- Steps of live runs: a foreach whose items are under way has fixed its list, and has not ended. A run that is to be
-- tried again may carry a state, and waits for its instant only.
CREATE OR REPLACE VIEW duework.steps AS
SELECT s.run_id, s.attempt, s.position, s.step, s.item, s.tool, s.status, s.tries, s.started_at,
       s.finished_at, s.duration_ms, s.input, s.output, s.error, s.verdict
FROM duework.step_run s
UNION ALL
SELECT c.run_id, c.attempt, (c.record ->> 'position')::integer, c.step, nullif(c.item, -1),
       c.record ->> 'tool', c.record ->> 'status', (c.record ->> 'tries')::integer,
       (c.record ->> 'started_at')::timestamptz, e.at,
       round(extract(epoch FROM e.at - (c.record ->> 'started_at')::timestamptz) * 1000, 3)::double precision,
       c.record -> 'input', c.record -> 'output', c.record -> 'error', c.record -> 'verdict'
FROM duework.checkpoint c
CROSS JOIN LATERAL (
  SELECT CASE WHEN c.record ->> 'status' <> 'running' THEN (c.record ->> 'finished_at')::timestamptz END AS at
) e;
COMMENT ON COLUMN duework.steps.status IS 'succeeded failed blocked skipped canceled timed_out, or a foreach that is running';
COMMENT ON COLUMN duework.steps.input IS 'What the gate let in; secrets are marks; of a running foreach its list';

CREATE OR REPLACE VIEW duework.runs_live (
  run_id, task_id, task, task_version, trigger, status, success, attempt, scheduled_for, started_at,
  finished_at, duration_ms, params, output, error, worker, parent_run_id) AS
SELECT d.id, d.task_id, t.name, d.task_version, d.trigger,
       CASE WHEN d.locked_until IS NOT NULL THEN 'running'
            WHEN d.state ?| ARRAY['steps', 'step'] OR d.waiting THEN 'waiting'
            WHEN d.run_at > now() THEN 'scheduled'
            ELSE 'queued' END,
       NULL::boolean, d.attempt, d.scheduled_for, NULL::timestamptz, NULL::timestamptz, NULL::double precision,
       d.params, NULL::jsonb, NULL::jsonb, d.locked_by, d.parent_run_id
FROM duework.due_work d LEFT JOIN duework.task t ON t.id = d.task_id;

-- Quarantine (engine/store/quarantine.py): runs that the gate stopped, what they need to go on, and what was decided.
-- The key makes digests of low-entropy values (engine/reflex/digests.py) worthless without it. It is made here, once;
-- no view shows it and no role but the owner of the schema may read it.
-- Promises: a run is held in the very commit that ends it as blocked; it is decided about once; `records` and `state` go
-- with the decision. Locks: none beyond the rows. Fence: that of the lease which is settled makes a row; `decision`
-- guards its end.
CREATE TABLE duework.gate_key (
  id         smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
  key        bytea NOT NULL CHECK (octet_length(key) = 32),
  created_at timestamptz NOT NULL DEFAULT now()
);
-- 366 bits from the server's own generator, in 256.
INSERT INTO duework.gate_key (key)
VALUES (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));

CREATE TABLE duework.held_run (
  run_id            uuid NOT NULL,
  attempt           integer NOT NULL,
  task_id           uuid NOT NULL,
  task_version      integer NOT NULL,
  held_at           timestamptz NOT NULL,
  findings          jsonb NOT NULL CHECK (jsonb_typeof(findings) = 'array'),
  priority          smallint NOT NULL,
  concurrency_key   text,
  concurrency_limit integer,
  created_by        uuid,
  records           jsonb,
  state             jsonb,
  decision          text CHECK (decision IN ('released', 'refused')),
  decided_at        timestamptz,
  decided_by        text,
  reason            text,
  released          text[],
  PRIMARY KEY (run_id, attempt),
  CHECK ((decision IS NULL) = (decided_at IS NULL) AND (decision IS NULL) = (decided_by IS NULL)
         AND (decision IS NULL) = (reason IS NULL)),
  CHECK ((decision IS NULL) = (records IS NOT NULL) AND (state IS NULL OR decision IS NULL)),
  CHECK (released IS NULL OR decision = 'released')
);
CREATE INDEX held_run_page ON duework.held_run (held_at DESC, run_id DESC);
CREATE INDEX held_run_open ON duework.held_run (held_at DESC, run_id DESC) WHERE decision IS NULL;

CREATE VIEW duework.quarantine AS
SELECT h.run_id, h.attempt, h.task_id, t.name AS task, h.task_version, coalesce(h.decision, 'held') AS status,
       h.held_at, h.findings, h.decided_at, h.decided_by, h.reason, h.released
FROM duework.held_run h LEFT JOIN duework.task t ON t.id = h.task_id;
COMMENT ON VIEW duework.quarantine IS 'Attempts that the gate blocked, and what was decided about them; they go with the history of their runs';
COMMENT ON COLUMN duework.quarantine.run_id IS 'The run';
COMMENT ON COLUMN duework.quarantine.attempt IS 'The attempt that was blocked';
COMMENT ON COLUMN duework.quarantine.task_id IS 'Its task';
COMMENT ON COLUMN duework.quarantine.task IS 'The task''s name';
COMMENT ON COLUMN duework.quarantine.task_version IS 'The version of the definition that ran; a release goes on with it';
COMMENT ON COLUMN duework.quarantine.status IS 'held, released or refused';
COMMENT ON COLUMN duework.quarantine.held_at IS 'When it was blocked';
COMMENT ON COLUMN duework.quarantine.findings IS 'Array of {step, item, direction, category, kind or family, rule, pointer, masked, digest, …}; step null: the run''s own output';
COMMENT ON COLUMN duework.quarantine.decided_at IS 'When it was released or refused';
COMMENT ON COLUMN duework.quarantine.decided_by IS 'The agent that did';
COMMENT ON COLUMN duework.quarantine.reason IS 'Why';
COMMENT ON COLUMN duework.quarantine.released IS 'The digests of the findings that were let pass';
GRANT SELECT ON duework.quarantine TO duework_reader;

-- False positives that people have marked (engine/store/allowances.py): findings that are let pass.
-- Promises: a mark is one value's digest or one pattern, never a value; it is changed by nothing but its revocation, and
-- never deleted with what it let pass on record. Locks: none beyond the rows. Fence: none; `revoked_at` is set once.
CREATE TABLE duework.allowance (
  id         uuid PRIMARY KEY DEFAULT duework.uuidv7(),
  task_id    uuid REFERENCES duework.task (id) ON DELETE CASCADE,
  kind       text,
  digest     text CHECK (digest ~ '^[0-9a-f]{32}$'),
  pattern    text CHECK (length(pattern) BETWEEN 1 AND 500),
  reason     text NOT NULL CHECK (length(reason) BETWEEN 1 AND 1000),
  author     text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz CHECK (expires_at <= created_at + interval '3653 days'),
  revoked_at timestamptz,
  revoked_by text,
  CHECK ((digest IS NULL) <> (pattern IS NULL)),
  CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
);
CREATE INDEX allowance_task ON duework.allowance (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX allowance_standing ON duework.allowance (id) WHERE revoked_at IS NULL;

CREATE VIEW duework.allowances AS
SELECT a.id, a.task_id, t.name AS task, a.kind, CASE WHEN a.pattern IS NULL THEN 'value' ELSE 'pattern' END AS form,
       a.pattern,
       CASE WHEN a.revoked_at IS NOT NULL THEN 'revoked' WHEN a.expires_at <= now() THEN 'expired' ELSE 'standing' END
         AS status,
       a.reason, a.author, a.created_at, a.expires_at, a.revoked_at, a.revoked_by
FROM duework.allowance a LEFT JOIN duework.task t ON t.id = a.task_id;
COMMENT ON VIEW duework.allowances IS 'False positives that people have marked: findings that the gate lets pass';
COMMENT ON COLUMN duework.allowances.id IS 'The mark';
COMMENT ON COLUMN duework.allowances.task_id IS 'The task it is for; null: any task, and what comes in at the door';
COMMENT ON COLUMN duework.allowances.task IS 'The task''s name';
COMMENT ON COLUMN duework.allowances.kind IS 'The kind or family it is for; null: any';
COMMENT ON COLUMN duework.allowances.form IS 'value (kept as a keyed digest alone) or pattern';
COMMENT ON COLUMN duework.allowances.pattern IS 'RE2, for the whole of what is found; null of a value';
COMMENT ON COLUMN duework.allowances.status IS 'standing, expired or revoked';
COMMENT ON COLUMN duework.allowances.reason IS 'Why it is a false positive';
COMMENT ON COLUMN duework.allowances.author IS 'The agent that marked it';
COMMENT ON COLUMN duework.allowances.created_at IS 'When';
COMMENT ON COLUMN duework.allowances.expires_at IS 'When it ends by itself; null: never';
COMMENT ON COLUMN duework.allowances.revoked_at IS 'When it was taken back';
COMMENT ON COLUMN duework.allowances.revoked_by IS 'The agent that took it back';
GRANT SELECT ON duework.allowances TO duework_reader;

-- What steps and runs take and give may be large JSON, which PostgreSQL compresses: with LZ4 where the server was built with
-- it, which needs less CPU than the default for about the same size. Not measured here: the embedded server lacks LZ4. Rows
-- written before keep theirs.
-- Locks: ACCESS EXCLUSIVE on each table for an instant; nothing is rewritten. Partitions to come take it from their parent.
DO $$
DECLARE
  big record;
BEGIN
  IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
    FOR big IN
      SELECT c.oid::regclass AS rel, a.attname AS col
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'duework'
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.atttypid = 'jsonb'::regtype AND NOT a.attisdropped
      WHERE c.relkind IN ('r', 'p')
    LOOP
      EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET COMPRESSION lz4', big.rel, big.col);
    END LOOP;
  END IF;
END $$;
