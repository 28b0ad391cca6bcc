-- The rows of DESIGN: definitions, the ledger, the queue, history, and who did what.
-- Hot tables (due_work, checkpoint, task_run, step_run, occurrence) carry no foreign keys: a key check per
-- row would lock the task row for every run. Legal states are CHECK constraints; none mentions now().

CREATE FUNCTION duework.uuidv7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
  -- RFC 9562 section 5.7: 48 bits of Unix milliseconds, then version 7 over the random bits of a v4.
  SELECT encode(
    set_bit(set_bit(
      overlay(uuid_send(gen_random_uuid())
              PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
              FROM 1 FOR 6),
      52, 1), 53, 1), 'hex')::uuid
$$;

-- One sequence for all leases: a later lease of any run has a larger fence, so tools may compare them.
CREATE SEQUENCE duework.fence AS bigint CACHE 1;

CREATE TABLE duework.agent (
  id          uuid PRIMARY KEY DEFAULT duework.uuidv7(),
  name        text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?$'),
  scopes      text[] NOT NULL DEFAULT '{}',
  webhook_url text,
  active      boolean NOT NULL DEFAULT true,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now()
);

-- Tokens are 256 random bits, so a plain SHA-256 digest cannot be turned round by guessing.
CREATE TABLE duework.agent_token (
  digest     bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
  agent_id   uuid NOT NULL REFERENCES duework.agent ON DELETE CASCADE,
  label      text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  revoked_at timestamptz
);
CREATE INDEX agent_token_agent ON duework.agent_token (agent_id);

-- Known from the first migration so that the seeds' example (created_by …0001) works. It has no token; the
-- word `system-agent` is let in by the API in development mode only.
INSERT INTO duework.agent (id, name, scopes)
VALUES ('00000000-0000-0000-0000-000000000001', 'system-agent', '{admin}');

CREATE TABLE duework.task (
  id               uuid PRIMARY KEY DEFAULT duework.uuidv7(),
  name             text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?$'),
  title            text NOT NULL,
  description      text NOT NULL DEFAULT '',
  labels           jsonb NOT NULL DEFAULT '{}',
  schedule_kind    text NOT NULL
    CHECK (schedule_kind IN ('rrule', 'cron', 'every', 'once', 'event', 'condition', 'manual')),
  schedule_expr    text NOT NULL DEFAULT '',
  timezone         text NOT NULL DEFAULT 'UTC',
  schedule_start   timestamp,
  schedule_options jsonb NOT NULL DEFAULT '{}',
  payload          jsonb NOT NULL,
  status           text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'canceled')),
  status_reason    text,
  status_changed_at timestamptz NOT NULL DEFAULT now(),
  priority         smallint NOT NULL DEFAULT 5 CHECK (priority BETWEEN 1 AND 9),
  dedupe_key       text,
  dedupe_window    interval,
  dedupe_scheduled text,
  max_retries      integer NOT NULL DEFAULT 0 CHECK (max_retries >= 0),
  backoff_strategy text NOT NULL DEFAULT 'exponential_jitter',
  concurrency_key  text,
  concurrency      jsonb,
  pause_after_failures integer CHECK (pause_after_failures >= 1),
  condition_met    boolean,
  condition_at     timestamptz,
  next_run         timestamptz,
  tzdata_version   text,
  version          integer NOT NULL DEFAULT 1 CHECK (version >= 1),
  set_name         text,
  created_by       uuid,
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now(),
  CHECK (next_run IS NULL OR status = 'active')
);
-- The tick reads due tasks and nothing else from this index, however many tasks sleep.
CREATE INDEX task_due ON duework.task (next_run) WHERE status = 'active' AND next_run IS NOT NULL;
CREATE INDEX task_event ON duework.task (schedule_expr) WHERE status = 'active' AND schedule_kind = 'event';
CREATE INDEX task_page ON duework.task (created_at, id);
CREATE INDEX task_set ON duework.task (set_name) WHERE set_name IS NOT NULL;

CREATE TABLE duework.task_version (
  task_id    uuid NOT NULL REFERENCES duework.task ON DELETE CASCADE,
  version    integer NOT NULL CHECK (version >= 1),
  definition jsonb NOT NULL,
  author     uuid,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (task_id, version)
);

-- The ledger and the guard. A row with a run_id is one instant that became a run; a row without is an
-- instant, or with last_for a range of instants, that did not, and says why.
CREATE TABLE duework.occurrence (
  task_id       uuid NOT NULL,
  scheduled_for timestamptz NOT NULL,
  run_id        uuid,
  disposition   text NOT NULL
    CHECK (disposition IN ('scheduled', 'missed', 'skipped', 'suppressed', 'deduplicated')),
  last_for      timestamptz,
  count         bigint DEFAULT 1 CHECK (count >= 1),
  reason        text,
  created_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (task_id, scheduled_for),
  CHECK (disposition <> 'scheduled' OR run_id IS NOT NULL),
  CHECK (last_for IS NULL OR (run_id IS NULL AND last_for >= scheduled_for))
) PARTITION BY RANGE (scheduled_for);
-- One run by its id is found without reading the ledger of every task.
CREATE INDEX occurrence_run ON duework.occurrence (run_id) WHERE disposition <> 'scheduled' AND run_id IS NOT NULL;
CREATE TABLE duework.occurrence_default PARTITION OF duework.occurrence DEFAULT;

-- The queue: insert-and-delete, list-partitioned into rotating slots. New rows go to the slot that
-- due_work_slot calls 'writing'; a drained slot is emptied by TRUNCATE, which frees its space whatever
-- transaction pins the MVCC horizon. Slot -1 holds far-future rows until they are due (docs/adr/0001).
CREATE TABLE duework.due_work (
  id             uuid NOT NULL DEFAULT duework.uuidv7(),
  slot           smallint NOT NULL,
  task_id        uuid NOT NULL,
  task_version   integer NOT NULL,
  trigger        text NOT NULL
    CHECK (trigger IN ('schedule', 'run_now', 'event', 'backfill', 'retry', 'condition', 'pipeline')),
  scheduled_for  timestamptz,
  run_at         timestamptz NOT NULL,
  expires_at     timestamptz,
  priority       smallint NOT NULL DEFAULT 5 CHECK (priority BETWEEN 1 AND 9),
  attempt        integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
  locked_until   timestamptz,
  locked_by      text,
  fence          bigint,
  cancel_reason  text,
  params         jsonb,
  event          jsonb,
  state          jsonb,
  parent_run_id  uuid,
  created_by     uuid,
  concurrency_key   text CHECK (length(concurrency_key) BETWEEN 1 AND 600),
  concurrency_limit integer CHECK (concurrency_limit >= 1),
  on_conflict    text CHECK (on_conflict IN ('skip', 'queue', 'cancel_running')),
  key_slot       integer CHECK (key_slot >= 0 AND key_slot < concurrency_limit),
  waiting        boolean NOT NULL DEFAULT false,
  created_at     timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (id, slot),
  CHECK ((locked_until IS NULL) = (locked_by IS NULL)),
  CHECK ((concurrency_key IS NULL) = (concurrency_limit IS NULL)),
  CHECK ((concurrency_key IS NULL) = (on_conflict IS NULL)),
  CHECK (concurrency_key IS NOT NULL OR key_slot IS NULL),
  -- A row whose key is taken waits out of the way of leases, and holds nothing.
  CHECK (NOT waiting OR (slot = -1 AND concurrency_key IS NOT NULL AND key_slot IS NULL AND locked_until IS NULL))
) PARTITION BY LIST (slot);
-- fillfactor leaves room on the page, so that taking a lease is a HOT update (no index column changes).
CREATE TABLE duework.due_work_0 PARTITION OF duework.due_work FOR VALUES IN (0) WITH (fillfactor = 60);
CREATE TABLE duework.due_work_1 PARTITION OF duework.due_work FOR VALUES IN (1) WITH (fillfactor = 60);
CREATE TABLE duework.due_work_2 PARTITION OF duework.due_work FOR VALUES IN (2) WITH (fillfactor = 60);
CREATE TABLE duework.due_work_later PARTITION OF duework.due_work FOR VALUES IN (-1);
CREATE INDEX due_work_lease ON duework.due_work (priority, run_at) WHERE NOT waiting;
-- Who is next under a key, in the order of leases: of those that wait, and of those that ask. No column of these
-- changes with a lease, and a row without a key is in none. And rows that wait too long, for the reaper.
CREATE INDEX due_work_waiting ON duework.due_work (concurrency_key, priority, run_at) WHERE waiting;
CREATE INDEX due_work_asking ON duework.due_work (concurrency_key, priority, run_at)
  WHERE concurrency_key IS NOT NULL AND NOT waiting;
CREATE INDEX due_work_waiting_end ON duework.due_work (expires_at) WHERE waiting;

-- Work that repeats the past, by the instant it repeats: what a backfill leaves out, and what ends with it.
CREATE INDEX due_work_repeat ON duework.due_work (task_id, scheduled_for) WHERE trigger IN ('backfill', 'retry');

-- One row per run that holds a number under a concurrency key: from its admission to its end, between attempts and
-- while it is parked too. The primary key is the limit: a run needs a number below it, so no count is ever taken
-- (docs/adr/0007). due_work.key_slot says the same from the other side. A number that passes from one run to the
-- next is updated in place, without a new index entry.
CREATE TABLE duework.concurrency_slot (
  key      text NOT NULL,
  slot     integer NOT NULL CHECK (slot >= 0),
  run_id   uuid NOT NULL,
  taken_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (key, slot)
) WITH (fillfactor = 50);

-- The runs that the dedupe keys of each task have let in, by the instant each was for. One counts while it is queued or
-- begun; a run that was withdrawn, missed or canceled before it began stands for no other (list_dedupe_holds.sql).
CREATE TABLE duework.dedupe_key (
  task_id    uuid NOT NULL,
  key        text NOT NULL CHECK (length(key) BETWEEN 1 AND 500),
  at         timestamptz NOT NULL,
  run_id     uuid NOT NULL,
  held_until timestamptz,
  PRIMARY KEY (task_id, key, at)
);
CREATE INDEX dedupe_key_end ON duework.dedupe_key (held_until);

CREATE TABLE duework.due_work_slot (
  slot       smallint PRIMARY KEY,
  state      text NOT NULL CHECK (state IN ('writing', 'draining', 'empty')),
  changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX due_work_slot_writing ON duework.due_work_slot (state) WHERE state = 'writing';
INSERT INTO duework.due_work_slot (slot, state) VALUES (0, 'writing'), (1, 'empty'), (2, 'empty');

CREATE FUNCTION duework.slot_for(run_at timestamptz, at timestamptz) RETURNS smallint
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  -- Rows due within two minutes go to the writing slot; later ones wait where no lease wades through them.
  SELECT CASE WHEN run_at > at + interval '2 minutes' THEN -1::smallint
              ELSE (SELECT slot FROM duework.due_work_slot WHERE state = 'writing') END
$$;

CREATE FUNCTION duework.rotate_slots(older_than interval) RETURNS smallint LANGUAGE plpgsql AS $$
-- Turn the writing slot into a draining one and an empty slot into the writing one; returns the new one.
-- Promises: exactly one slot is 'writing' at every commit. Locks: the advisory key, tried and not waited for,
-- then the three slot rows. A writer that read the old slot before this commit still inserts into it: that is
-- harmless, because leases look at every slot and truncation looks again under its own lock.
DECLARE
  fresh smallint;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('duework.rotate_slots')) THEN RETURN NULL; END IF;
  SELECT e.slot INTO fresh
  FROM duework.due_work_slot e, duework.due_work_slot w
  WHERE e.state = 'empty' AND w.state = 'writing' AND w.changed_at < now() - older_than
    AND EXISTS (SELECT FROM duework.due_work d WHERE d.slot = w.slot)
  ORDER BY e.changed_at LIMIT 1;
  IF fresh IS NULL THEN RETURN NULL; END IF;
  UPDATE duework.due_work_slot SET state = 'draining', changed_at = now() WHERE state = 'writing';
  UPDATE duework.due_work_slot SET state = 'writing', changed_at = now() WHERE slot = fresh;
  RETURN fresh;
END $$;

CREATE FUNCTION duework.truncate_slot(which smallint) RETURNS boolean LANGUAGE plpgsql AS $$
-- Empty the storage of a drained slot; true when done.
-- Promises: a slot that holds any row, committed or not, is left alone. Locks: ACCESS EXCLUSIVE on that one
-- partition, waited for at most 5 ms, because leases queue up behind the waiting lock. The check for rows
-- comes after the lock: until then a late writer may still add one.
DECLARE
  empty boolean;
BEGIN
  IF which < 0 THEN RETURN false; END IF;
  PERFORM set_config('lock_timeout', '5ms', true);
  EXECUTE format('LOCK TABLE duework.%I IN ACCESS EXCLUSIVE MODE', 'due_work_' || which);
  EXECUTE format('SELECT NOT EXISTS (SELECT FROM duework.%I)', 'due_work_' || which) INTO empty;
  IF NOT empty THEN RETURN false; END IF;
  EXECUTE format('TRUNCATE TABLE duework.%I', 'due_work_' || which);
  UPDATE duework.due_work_slot SET state = 'empty', changed_at = now() WHERE slot = which AND state = 'draining';
  RETURN true;
EXCEPTION WHEN lock_not_available THEN
  RETURN false; -- a reader or a writer is at work; the next round tries again
END $$;

CREATE TABLE duework.task_run (
  run_id        uuid NOT NULL,
  attempt       integer NOT NULL CHECK (attempt >= 0),
  task_id       uuid NOT NULL,
  task_version  integer NOT NULL,
  trigger       text NOT NULL,
  scheduled_for timestamptz,
  params        jsonb,
  event         jsonb,
  status        text NOT NULL
    CHECK (status IN ('succeeded', 'failed', 'blocked', 'canceled', 'timed_out', 'expired', 'skipped')),
  final         boolean NOT NULL,
  started_at    timestamptz,
  finished_at   timestamptz NOT NULL,
  success       boolean NOT NULL GENERATED ALWAYS AS (status = 'succeeded') STORED,
  duration_ms   double precision
    GENERATED ALWAYS AS (round(extract(epoch FROM finished_at - started_at) * 1000, 3)::double precision) STORED,
  error         jsonb,
  output        jsonb,
  worker        text,
  fence         bigint,
  parent_run_id uuid,
  PRIMARY KEY (run_id, attempt, finished_at)
) PARTITION BY RANGE (finished_at);
CREATE TABLE duework.task_run_default PARTITION OF duework.task_run DEFAULT;
CREATE INDEX task_run_task ON duework.task_run (task_id, run_id DESC);
CREATE INDEX task_run_finished ON duework.task_run (finished_at DESC, run_id DESC) WHERE final;

CREATE TABLE duework.step_run (
  run_id      uuid NOT NULL,
  attempt     integer NOT NULL,
  position    integer NOT NULL,
  step        text NOT NULL,
  item        integer,
  tool        text NOT NULL,
  status      text NOT NULL
    CHECK (status IN ('succeeded', 'failed', 'blocked', 'skipped', 'canceled', 'timed_out')),
  tries       integer NOT NULL DEFAULT 1,
  started_at  timestamptz,
  finished_at timestamptz NOT NULL,
  duration_ms double precision
    GENERATED ALWAYS AS (round(extract(epoch FROM finished_at - started_at) * 1000, 3)::double precision) STORED,
  input       jsonb,
  output      jsonb,
  error       jsonb,
  verdict     jsonb
) PARTITION BY RANGE (finished_at);
CREATE TABLE duework.step_run_default PARTITION OF duework.step_run DEFAULT;
CREATE INDEX step_run_run ON duework.step_run (run_id, attempt, position);
CREATE INDEX step_run_verdict ON duework.step_run (finished_at DESC) WHERE verdict IS NOT NULL;

-- Finished steps of live runs: the state a later attempt resumes from.
CREATE TABLE duework.checkpoint (
  run_id     uuid NOT NULL,
  step       text NOT NULL,
  item       integer NOT NULL DEFAULT -1,
  attempt    integer NOT NULL,
  fence      bigint NOT NULL,
  record     jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (run_id, step, item)
);

CREATE TABLE duework.event (
  id          uuid PRIMARY KEY DEFAULT duework.uuidv7(),
  source      text NOT NULL,
  external_id text NOT NULL,
  topic       text NOT NULL CHECK (topic <> ''),
  payload     jsonb NOT NULL DEFAULT '{}',
  agent_id    uuid,
  accepted_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (source, external_id)
);
CREATE INDEX event_page ON duework.event (accepted_at DESC, id DESC);
CREATE INDEX event_topic ON duework.event (topic, accepted_at DESC);

CREATE TABLE duework.worker (
  id         text PRIMARY KEY,
  host       text NOT NULL,
  pid        integer NOT NULL,
  version    text NOT NULL,
  slots      integer NOT NULL,
  busy       integer NOT NULL DEFAULT 0,
  labels     jsonb NOT NULL DEFAULT '{}',
  draining   boolean NOT NULL DEFAULT false,
  started_at timestamptz NOT NULL DEFAULT now(),
  last_seen  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE duework.scheduler (
  id         text PRIMARY KEY,
  host       text NOT NULL,
  pid        integer NOT NULL,
  version    text NOT NULL,
  tzdata_version text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  last_tick  timestamptz NOT NULL DEFAULT now()
);

-- What the gate refused at the door (a definition, run-now parameters, an event): kinds and places only.
CREATE TABLE duework.refusal (
  id       uuid PRIMARY KEY DEFAULT duework.uuidv7(),
  surface  text NOT NULL,
  task_id  uuid,
  agent_id uuid,
  verdict  jsonb NOT NULL,
  at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX refusal_at ON duework.refusal (at DESC);

CREATE TABLE duework.audit_log (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at         timestamptz NOT NULL DEFAULT now(),
  actor      text NOT NULL,
  action     text NOT NULL,
  subject    text NOT NULL,
  request_id text,
  details    jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_subject ON duework.audit_log (subject, id DESC);

CREATE FUNCTION duework.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
    USING ERRCODE = 'restrict_violation', HINT = 'Write a new row that corrects the old one.';
END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON duework.audit_log
  FOR EACH ROW EXECUTE FUNCTION duework.refuse_change();
CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON duework.audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION duework.refuse_change();

CREATE TABLE duework.idempotency_key (
  agent_id   uuid NOT NULL,
  key        text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  request    bytea NOT NULL,
  status     integer,
  headers    jsonb,
  body       jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (agent_id, key)
);
CREATE INDEX idempotency_key_age ON duework.idempotency_key (created_at);

CREATE FUNCTION duework.drop_partitions(older_than interval) RETURNS integer LANGUAGE plpgsql AS $$
-- Drop the months of history that ended longer ago than that; returns how many went.
-- Promises: a month is dropped whole or not at all. Locks: the partition and, briefly, its parent; waited for at
-- most 50 ms, because settling queues up behind the waiting lock; what is refused is tried again in an hour.
DECLARE
  part record;
  gone integer := 0;
BEGIN
  PERFORM set_config('lock_timeout', '50ms', true);
  FOR part IN
    SELECT c.relname AS name
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent IN ('duework.occurrence'::regclass, 'duework.task_run'::regclass, 'duework.step_run'::regclass)
      AND c.relname ~ '_[0-9]{4}_[0-9]{2}$'
      AND (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC' <= now() - older_than
  LOOP
    BEGIN
      EXECUTE format('DROP TABLE duework.%I', part.name);
      gone := gone + 1;
    EXCEPTION WHEN lock_not_available THEN
      NULL;
    END;
  END LOOP;
  RETURN gone;
END $$;

CREATE FUNCTION duework.ensure_partitions(at timestamptz DEFAULT now(), months integer DEFAULT 3)
RETURNS integer LANGUAGE plpgsql AS $$
-- Monthly partitions of history, from last month to `months` ahead; returns how many were made.
-- Two callers at once: the advisory lock lets one work and the other find everything there. A month whose rows
-- already lie in the default partition stays there, and keeps none of the other months from being made.
DECLARE
  parent text;
  first  date;
  made   integer := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('duework.ensure_partitions'));
  FOREACH parent IN ARRAY ARRAY['occurrence', 'task_run', 'step_run'] LOOP
    FOR i IN -1..months LOOP
      first := (date_trunc('month', at AT TIME ZONE 'UTC') + make_interval(months => i))::date;
      IF to_regclass(format('duework.%I', parent || to_char(first, '_YYYY_MM'))) IS NULL THEN
        BEGIN
          EXECUTE format(
            'CREATE TABLE duework.%I PARTITION OF duework.%I FOR VALUES FROM (%L) TO (%L)',
            parent || to_char(first, '_YYYY_MM'), parent,
            first::text || ' 00:00:00+00', (first + interval '1 month')::date::text || ' 00:00:00+00');
          made := made + 1;
        EXCEPTION WHEN check_violation THEN
          NULL;
        END;
      END IF;
    END LOOP;
  END LOOP;
  RETURN made;
END $$;
SELECT duework.ensure_partitions();
