-- What an application asks for in a transaction of its own: run_now, publish, cancel (docs/how-to/ask-by-sql.md).
--
-- A function writes a request, and no more. A worker checks it as the API checks a body: parameters against their schema,
-- every value through the gate, the concurrency and dedupe keys made; only then is there a row of due_work. So nothing
-- unchecked can be leased, and an application neither reads nor writes the queue, whose drained slots could not be
-- truncated while its transaction lasted.
-- Promises: a request is there exactly if its transaction committed; it is taken once. What it holds is erased when it is
-- taken, whatever comes of it. No view shows a value that the gate has not seen.
-- Locks: none but the new row; who takes it locks it FOR UPDATE SKIP LOCKED. Fence: the row's own deletion, in the same
-- transaction as its answer.

CREATE TABLE duework.request (
  number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id          uuid NOT NULL UNIQUE DEFAULT duework.uuidv7(),
  kind        text NOT NULL CHECK (kind IN ('run_now', 'publish', 'cancel')),
  actor       text NOT NULL,
  task_id     uuid,
  run_id      uuid,
  topic       text CHECK (length(topic) BETWEEN 1 AND 200),
  source      text CHECK (length(source) BETWEEN 1 AND 500),
  external_id text CHECK (length(external_id) BETWEEN 1 AND 255),
  reason      text CHECK (length(reason) BETWEEN 1 AND 2000),
  run_at      timestamptz CHECK (run_at BETWEEN '0001-01-02Z' AND '9999-12-30Z'),
  priority    smallint CHECK (priority BETWEEN 1 AND 9),
  content     jsonb CHECK (jsonb_typeof(content) = 'object'),
  created_at  timestamptz NOT NULL DEFAULT now(),
  CHECK ((kind = 'run_now') = (task_id IS NOT NULL)),
  CHECK ((kind = 'publish') = (topic IS NOT NULL AND source IS NOT NULL AND content IS NOT NULL)),
  CHECK ((kind = 'cancel') = (run_id IS NOT NULL))
);

CREATE FUNCTION duework.run_now(
  name text, params jsonb DEFAULT NULL, run_at timestamptz DEFAULT NULL, priority integer DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
-- Ask for a run of a task; answers its run_id. `params` go over the definition's own.
-- Promises: the run comes about if and only if the caller's transaction commits, and its parameters are checked before
-- it can be leased; refused ones end it as failed or blocked. Locks: none. Fence: none.
DECLARE
  task record;
  made  uuid;
BEGIN
  SELECT t.id, t.status INTO task FROM duework.task t WHERE t.name = run_now.name;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no task %', quote_nullable(run_now.name)
      USING ERRCODE = 'no_data_found', HINT = 'Tasks are asked for by name: select name from duework.task.';
  ELSIF task.status = 'canceled' THEN
    RAISE EXCEPTION 'task % is canceled and cannot be run', quote_literal(run_now.name)
      USING ERRCODE = 'object_not_in_prerequisite_state';
  ELSIF jsonb_typeof(run_now.params) NOT IN ('object', 'null') THEN
    RAISE EXCEPTION 'params must be an object, not %', jsonb_typeof(run_now.params)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name each parameter: jsonb_build_object(''city'', ''Oslo'').';
  ELSIF run_now.priority NOT BETWEEN 1 AND 9 THEN
    RAISE EXCEPTION 'priority must be from 1 (first) to 9, not %', run_now.priority
      USING ERRCODE = 'invalid_parameter_value';
  ELSIF run_now.run_at NOT BETWEEN '0001-01-02Z' AND '9999-12-30Z' THEN
    RAISE EXCEPTION 'run_at must be within the years 1 to 9999' USING ERRCODE = 'invalid_parameter_value';
  ELSIF octet_length(run_now.params::text) > 1048576 THEN
    RAISE EXCEPTION 'params must not have more than 1048576 bytes' USING ERRCODE = 'program_limit_exceeded',
      HINT = 'Keep what is large in a table of yours, and name its key.';
  END IF;
  INSERT INTO duework.request (kind, actor, task_id, run_at, priority, content)
  VALUES ('run_now', 'sql:' || session_user, task.id, run_now.run_at, run_now.priority,
          nullif(run_now.params, 'null'::jsonb))
  RETURNING id INTO made;
  PERFORM pg_notify('duework_request', '');
  RETURN made;
END $$;

CREATE FUNCTION duework.publish(
  topic text, payload jsonb DEFAULT '{}', source text DEFAULT NULL, id text DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
-- Publish an event; answers its event_id. The same (source, id) is one event, of which the first counts.
-- Promises: the event is accepted if and only if the caller's transaction commits and the gate lets it through.
-- Locks: none. Fence: none.
DECLARE
  made uuid;
BEGIN
  -- Said here, as the table's own constraints would quote the whole row into the server's log.
  IF NOT (length(publish.topic) <= 200 AND length(coalesce(publish.source, 'x')) BETWEEN 1 AND 500
          AND length(coalesce(publish.id, 'x')) BETWEEN 1 AND 255) THEN
    RAISE EXCEPTION 'a topic has at most 200 characters, a source 1 to 500, an id 1 to 255'
      USING ERRCODE = 'invalid_parameter_value';
  ELSIF octet_length(publish.payload::text) > 1048576 THEN
    RAISE EXCEPTION 'the payload must not have more than 1048576 bytes' USING ERRCODE = 'program_limit_exceeded',
      HINT = 'Keep what is large in a table of yours, and name its key.';
  ELSIF (publish.topic ~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$') IS NOT TRUE THEN
    RAISE EXCEPTION 'a topic is words with dots between them, like order.paid'
      USING ERRCODE = 'invalid_parameter_value';
  ELSIF jsonb_typeof(publish.payload) IS DISTINCT FROM 'object' THEN
    RAISE EXCEPTION 'the payload must be an object, not %', coalesce(jsonb_typeof(publish.payload), 'NULL')
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Name what it holds: jsonb_build_object(''order'', 7).';
  END IF;
  INSERT INTO duework.request (kind, actor, topic, source, external_id, content)
  VALUES ('publish', 'sql:' || session_user, publish.topic, coalesce(publish.source, 'sql:' || session_user),
          publish.id, publish.payload)
  RETURNING request.id INTO made;
  PERFORM pg_notify('duework_request', '');
  RETURN made;
END $$;

CREATE FUNCTION duework.cancel(run_id uuid, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
-- Ask for the end of a run, one too that this very transaction asked for. A run that has ended stays as it is.
-- Promises: the request is acted on if and only if the caller's transaction commits, after those that were made before
-- it. Locks: none. Fence: none here; a leased run is ended by its holder.
BEGIN
  IF cancel.run_id IS NULL THEN
    RAISE EXCEPTION 'cancel needs a run_id' USING ERRCODE = 'null_value_not_allowed';
  ELSIF length(cancel.reason) > 2000 THEN
    RAISE EXCEPTION 'a reason has at most 2000 characters' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO duework.request (kind, actor, run_id, reason)
  VALUES ('cancel', 'sql:' || session_user, cancel.run_id, nullif(cancel.reason, ''));
  PERFORM pg_notify('duework_request', '');
END $$;

-- Roles are cluster-wide: made if absent, never dropped, because another database may use them.
DO $$
BEGIN
  -- Looked for first: whoever may not make roles may still use one that somebody has made for it.
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'duework_application') THEN
    CREATE ROLE duework_application NOLOGIN;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL; -- another database of this cluster made it, perhaps at this very moment
END $$;
REVOKE EXECUTE ON FUNCTION duework.run_now(text, jsonb, timestamptz, integer),
  duework.publish(text, jsonb, text, text), duework.cancel(uuid, text) FROM PUBLIC;
GRANT USAGE ON SCHEMA duework TO duework_application;
GRANT EXECUTE ON FUNCTION duework.run_now(text, jsonb, timestamptz, integer),
  duework.publish(text, jsonb, text, text), duework.cancel(uuid, text) TO duework_application;

-- A run is in the history from the commit that asked for it; what it was given is shown when it has been checked.
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
FROM duework.due_work d LEFT JOIN duework.task t ON t.id = d.task_id
UNION ALL
SELECT q.id, q.task_id, t.name, NULL, 'run_now', CASE WHEN q.run_at > now() THEN 'scheduled' ELSE 'queued' END,
       NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM duework.request q LEFT JOIN duework.task t ON t.id = q.task_id
WHERE q.kind = 'run_now';
