-- The SQL contract: what people and dashboards read. Columns are only ever added.

-- Runs in three parts, so that a page of the newest can be read from each by its own index and merged:
-- a LIMIT over the UNION ALL of joins would sort the whole history (652 ms at a million runs, 1 ms this way).
CREATE VIEW duework.runs_ended (
  run_id, task_id, task, task_version, trigger, status, success, attempt, scheduled_for, started_at,
  finished_at, duration_ms, params, output, error, worker, parent_run_id) AS
SELECT r.run_id, r.task_id, t.name AS task, r.task_version, r.trigger,
       CASE WHEN r.status = 'expired' THEN 'dead' ELSE r.status END AS status,
       r.success, r.attempt, r.scheduled_for, r.started_at, r.finished_at, r.duration_ms,
       r.params, r.output, r.error, r.worker, r.parent_run_id
FROM duework.task_run r LEFT JOIN duework.task t ON t.id = r.task_id
WHERE r.final;

CREATE VIEW duework.runs_live (
  run_id, task_id, task, task_version, trigger, status, success, attempt, scheduled_for, started_at,
  finished_at, duration_ms, params, output, error, worker, parent_run_id) AS
SELECT d.id, d.task_id, t.name, d.task_version, d.trigger,
       CASE WHEN d.locked_until IS NOT NULL THEN 'running'
            WHEN d.state IS NOT NULL OR d.waiting THEN 'waiting'
            WHEN d.run_at > now() THEN 'scheduled'
            ELSE 'queued' END,
       NULL::boolean, d.attempt, d.scheduled_for, NULL::timestamptz, NULL::timestamptz, NULL::double precision,
       d.params, NULL::jsonb, NULL::jsonb, d.locked_by, d.parent_run_id
FROM duework.due_work d LEFT JOIN duework.task t ON t.id = d.task_id;

CREATE VIEW duework.runs_unstarted (
  run_id, task_id, task, task_version, trigger, status, success, attempt, scheduled_for, started_at,
  finished_at, duration_ms, params, output, error, worker, parent_run_id) AS
SELECT o.run_id, o.task_id, t.name, NULL::integer,
       CASE t.schedule_kind WHEN 'condition' THEN 'condition' ELSE 'schedule' END, o.disposition,
       NULL::boolean, 0, o.scheduled_for, NULL::timestamptz, NULL::timestamptz, NULL::double precision,
       NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::text, NULL::uuid
FROM duework.occurrence o LEFT JOIN duework.task t ON t.id = o.task_id
WHERE o.run_id IS NOT NULL AND o.disposition <> 'scheduled';

CREATE VIEW duework.runs AS
SELECT * FROM duework.runs_ended
UNION ALL
SELECT * FROM duework.runs_live
UNION ALL
SELECT * FROM duework.runs_unstarted;
COMMENT ON VIEW duework.runs IS 'One row per run, all its attempts together, live ones included';
COMMENT ON COLUMN duework.runs.run_id IS 'Known from the moment the work is accepted; UUID version 7, so it sorts by time';
COMMENT ON COLUMN duework.runs.task_id IS 'The task whose definition ran';
COMMENT ON COLUMN duework.runs.task IS 'The task''s name';
COMMENT ON COLUMN duework.runs.task_version IS 'The version of the definition that ran';
COMMENT ON COLUMN duework.runs.trigger IS 'schedule, run_now, event, backfill, retry, condition or pipeline';
COMMENT ON COLUMN duework.runs.status IS 'scheduled queued running waiting, then succeeded failed blocked canceled timed_out dead missed skipped';
COMMENT ON COLUMN duework.runs.success IS 'True for succeeded, false for every other end, null while live';
COMMENT ON COLUMN duework.runs.attempt IS 'Attempts begun so far';
COMMENT ON COLUMN duework.runs.scheduled_for IS 'The instant that the schedule named; null for run-now and events';
COMMENT ON COLUMN duework.runs.started_at IS 'When the last attempt began';
COMMENT ON COLUMN duework.runs.finished_at IS 'When the last attempt ended';
COMMENT ON COLUMN duework.runs.duration_ms IS 'Length of the last attempt in milliseconds';
COMMENT ON COLUMN duework.runs.params IS 'Parameters given for this run, as the gate passed them; null: those of the definition';
COMMENT ON COLUMN duework.runs.output IS 'The pipeline''s output, as the gate passed it';
COMMENT ON COLUMN duework.runs.error IS '{code, message, step, …} of the last attempt';
COMMENT ON COLUMN duework.runs.worker IS 'The worker that holds or last held it';
COMMENT ON COLUMN duework.runs.parent_run_id IS 'The run whose step started this one, or that this one retries, or the backfill that it belongs to';

DO $$
-- The three parts mean by each column what the whole means by it.
DECLARE
  part text;
  field record;
BEGIN
  FOREACH part IN ARRAY ARRAY['runs_ended', 'runs_live', 'runs_unstarted'] LOOP
    EXECUTE format('COMMENT ON VIEW duework.%I IS %L', part, 'A part of duework.runs; read that one');
    FOR field IN
      SELECT a.attname AS name, col_description(a.attrelid, a.attnum) AS meaning
      FROM pg_attribute a WHERE a.attrelid = 'duework.runs'::regclass AND a.attnum > 0
    LOOP
      EXECUTE format('COMMENT ON COLUMN duework.%I.%I IS %L', part, field.name, field.meaning);
    END LOOP;
  END LOOP;
END $$;

CREATE VIEW duework.attempts AS
SELECT r.run_id, r.attempt, r.task_id, t.name AS task, r.task_version, r.status, r.success, r.final,
       r.started_at, r.finished_at, r.duration_ms, r.error, r.output, r.worker, r.fence
FROM duework.task_run r LEFT JOIN duework.task t ON t.id = r.task_id;
COMMENT ON VIEW duework.attempts IS 'One row per finished attempt (one lease that came to an end)';
COMMENT ON COLUMN duework.attempts.run_id IS 'The run that this attempt belongs to';
COMMENT ON COLUMN duework.attempts.attempt IS 'Counted from 1';
COMMENT ON COLUMN duework.attempts.task_id IS 'The task whose definition ran';
COMMENT ON COLUMN duework.attempts.task IS 'The task''s name';
COMMENT ON COLUMN duework.attempts.task_version IS 'The version of the definition that ran';
COMMENT ON COLUMN duework.attempts.status IS 'succeeded failed blocked canceled timed_out expired';
COMMENT ON COLUMN duework.attempts.success IS 'status = succeeded';
COMMENT ON COLUMN duework.attempts.final IS 'Whether this attempt ended the run';
COMMENT ON COLUMN duework.attempts.started_at IS 'Start, by the database''s clock';
COMMENT ON COLUMN duework.attempts.finished_at IS 'End, by the database''s clock';
COMMENT ON COLUMN duework.attempts.duration_ms IS 'finished_at - started_at in milliseconds';
COMMENT ON COLUMN duework.attempts.error IS '{code, message, step, …}';
COMMENT ON COLUMN duework.attempts.output IS 'The pipeline''s output, as the gate passed it';
COMMENT ON COLUMN duework.attempts.worker IS 'The worker that held the lease';
COMMENT ON COLUMN duework.attempts.fence IS 'The lease''s fence number';

CREATE VIEW duework.steps AS
SELECT s.run_id, s.attempt, s.position, s.step, s.item, s.tool, s.status, s.tries, s.started_at,
       s.finished_at, s.duration_ms, s.input, s.output, s.error, s.verdict
FROM duework.step_run s
UNION ALL
SELECT c.run_id, c.attempt, (c.record ->> 'position')::integer, c.step, nullif(c.item, -1),
       c.record ->> 'tool', c.record ->> 'status', (c.record ->> 'tries')::integer,
       (c.record ->> 'started_at')::timestamptz, (c.record ->> 'finished_at')::timestamptz,
       round(extract(epoch FROM (c.record ->> 'finished_at')::timestamptz
                              - (c.record ->> 'started_at')::timestamptz) * 1000, 3)::double precision,
       c.record -> 'input', c.record -> 'output', c.record -> 'error', c.record -> 'verdict'
FROM duework.checkpoint c;
COMMENT ON VIEW duework.steps IS 'One row per step (and item) of every run; checkpointed steps of live runs included';
COMMENT ON COLUMN duework.steps.run_id IS 'The run';
COMMENT ON COLUMN duework.steps.attempt IS 'The attempt that executed the step';
COMMENT ON COLUMN duework.steps.position IS 'Order of the step in the pipeline, from 0';
COMMENT ON COLUMN duework.steps.step IS 'The step''s id';
COMMENT ON COLUMN duework.steps.item IS 'Index within foreach; null otherwise';
COMMENT ON COLUMN duework.steps.tool IS 'Catalog address';
COMMENT ON COLUMN duework.steps.status IS 'succeeded failed blocked skipped canceled timed_out';
COMMENT ON COLUMN duework.steps.tries IS 'Calls made, retries of the step included';
COMMENT ON COLUMN duework.steps.started_at IS 'Start, by the database''s clock';
COMMENT ON COLUMN duework.steps.finished_at IS 'End, by the database''s clock';
COMMENT ON COLUMN duework.steps.duration_ms IS 'Length in milliseconds';
COMMENT ON COLUMN duework.steps.input IS 'What the gate let in; secrets are marks';
COMMENT ON COLUMN duework.steps.output IS 'What the gate let out';
COMMENT ON COLUMN duework.steps.error IS '{code, message, …}';
COMMENT ON COLUMN duework.steps.verdict IS '{input: verdict, output: verdict} where the gate had something to say';

CREATE VIEW duework.occurrences AS
SELECT o.task_id, t.name AS task, o.scheduled_for, o.last_for, o.count,
       CASE WHEN o.disposition = 'scheduled' AND r.run_id IS NOT NULL THEN 'ran' ELSE o.disposition END
         AS disposition,
       o.run_id, r.status, o.reason
FROM duework.occurrence o
LEFT JOIN duework.task t ON t.id = o.task_id
LEFT JOIN duework.task_run r ON r.run_id = o.run_id AND r.final;
COMMENT ON VIEW duework.occurrences IS 'The ledger: every scheduled instant, and why it did not run';
COMMENT ON COLUMN duework.occurrences.task_id IS 'The task';
COMMENT ON COLUMN duework.occurrences.task IS 'The task''s name';
COMMENT ON COLUMN duework.occurrences.scheduled_for IS 'The instant, or the first of a range';
COMMENT ON COLUMN duework.occurrences.last_for IS 'The last instant of a range; null for one instant';
COMMENT ON COLUMN duework.occurrences.count IS 'Instants in this row; null when a range was too long to count';
COMMENT ON COLUMN duework.occurrences.disposition IS 'ran, scheduled, missed, skipped, suppressed or deduplicated';
COMMENT ON COLUMN duework.occurrences.run_id IS 'The run that the instant became';
COMMENT ON COLUMN duework.occurrences.status IS 'How that run ended';
COMMENT ON COLUMN duework.occurrences.reason IS 'Why it did not run';

CREATE VIEW duework.upcoming AS
SELECT d.task_id, t.name AS task, d.run_at, d.scheduled_for, d.id AS run_id, d.trigger, d.priority
FROM duework.due_work d LEFT JOIN duework.task t ON t.id = d.task_id
WHERE d.run_at > now() AND d.locked_until IS NULL
UNION ALL
SELECT t.id, t.name, t.next_run, t.next_run, NULL,
       CASE t.schedule_kind WHEN 'condition' THEN 'condition' ELSE 'schedule' END, t.priority
FROM duework.task t WHERE t.status = 'active' AND t.next_run IS NOT NULL;
COMMENT ON VIEW duework.upcoming IS 'What will run: materialised rows, and each task''s next instant after them';
COMMENT ON COLUMN duework.upcoming.task_id IS 'The task';
COMMENT ON COLUMN duework.upcoming.task IS 'The task''s name';
COMMENT ON COLUMN duework.upcoming.run_at IS 'When it may be leased';
COMMENT ON COLUMN duework.upcoming.scheduled_for IS 'The instant that the schedule names';
COMMENT ON COLUMN duework.upcoming.run_id IS 'The run, once materialised';
COMMENT ON COLUMN duework.upcoming.trigger IS 'What made it due';
COMMENT ON COLUMN duework.upcoming.priority IS '1 first .. 9 last';

CREATE VIEW duework.queue AS
SELECT d.id AS run_id, d.task_id, t.name AS task, d.trigger, d.priority, d.run_at, d.expires_at,
       d.attempt, d.locked_by, d.locked_until, d.fence, d.slot, d.concurrency_key, d.key_slot, d.waiting
FROM duework.due_work d LEFT JOIN duework.task t ON t.id = d.task_id;
COMMENT ON VIEW duework.queue IS 'Every row of work that is not settled';
COMMENT ON COLUMN duework.queue.run_id IS 'The run';
COMMENT ON COLUMN duework.queue.task_id IS 'The task';
COMMENT ON COLUMN duework.queue.task IS 'The task''s name';
COMMENT ON COLUMN duework.queue.trigger IS 'What made it due';
COMMENT ON COLUMN duework.queue.priority IS '1 first .. 9 last';
COMMENT ON COLUMN duework.queue.run_at IS 'When it may be leased';
COMMENT ON COLUMN duework.queue.expires_at IS 'When it becomes missed if no worker started it';
COMMENT ON COLUMN duework.queue.attempt IS 'Leases taken so far';
COMMENT ON COLUMN duework.queue.locked_by IS 'The worker that holds it';
COMMENT ON COLUMN duework.queue.locked_until IS 'When the lease ends unless it is renewed';
COMMENT ON COLUMN duework.queue.fence IS 'The last lease''s fence number';
COMMENT ON COLUMN duework.queue.slot IS 'The partition it lies in; -1 is the far future, and where rows wait for their key';
COMMENT ON COLUMN duework.queue.concurrency_key IS 'What it shares a limit under: key:<its text> or task:<name>; null without a limit';
COMMENT ON COLUMN duework.queue.key_slot IS 'The number it holds under that key, from 0 to the limit less one; null until it is admitted';
COMMENT ON COLUMN duework.queue.waiting IS 'It is due and waits until a number is passed on to it';

CREATE VIEW duework.workers AS
SELECT w.id, w.host, w.pid, w.version, w.slots, w.busy, w.labels, w.draining, w.started_at, w.last_seen,
       w.last_seen > now() - interval '30 seconds' AS alive
FROM duework.worker w;
COMMENT ON VIEW duework.workers IS 'Worker processes and their heartbeats';
COMMENT ON COLUMN duework.workers.id IS 'Unique per process, never the host name alone';
COMMENT ON COLUMN duework.workers.host IS 'Host name';
COMMENT ON COLUMN duework.workers.pid IS 'Process id on that host';
COMMENT ON COLUMN duework.workers.version IS 'duework''s version';
COMMENT ON COLUMN duework.workers.slots IS 'Runs it executes at once';
COMMENT ON COLUMN duework.workers.busy IS 'Runs under way at the last heartbeat';
COMMENT ON COLUMN duework.workers.labels IS 'Its labels';
COMMENT ON COLUMN duework.workers.draining IS 'It takes no new work';
COMMENT ON COLUMN duework.workers.started_at IS 'When it started';
COMMENT ON COLUMN duework.workers.last_seen IS 'Its last heartbeat';
COMMENT ON COLUMN duework.workers.alive IS 'Seen within 30 seconds';

CREATE VIEW duework.verdicts AS
SELECT s.finished_at AS at, s.run_id, s.attempt, s.step, s.item, s.tool, v.key AS direction,
       v.value ->> 'action' AS action, v.value -> 'findings' AS findings
FROM duework.step_run s CROSS JOIN LATERAL jsonb_each(s.verdict) v
WHERE s.verdict IS NOT NULL
UNION ALL
SELECT r.at, NULL, NULL, NULL, NULL, r.surface, 'door', r.verdict ->> 'action', r.verdict -> 'findings'
FROM duework.refusal r;
COMMENT ON VIEW duework.verdicts IS 'What the gate said: kinds and places, never values';
COMMENT ON COLUMN duework.verdicts.at IS 'When the step ended, or the request was refused';
COMMENT ON COLUMN duework.verdicts.run_id IS 'The run; null for what was refused at the door';
COMMENT ON COLUMN duework.verdicts.attempt IS 'Its attempt';
COMMENT ON COLUMN duework.verdicts.step IS 'The step''s id';
COMMENT ON COLUMN duework.verdicts.item IS 'Index within foreach';
COMMENT ON COLUMN duework.verdicts.tool IS 'The tool, or the request that was refused';
COMMENT ON COLUMN duework.verdicts.direction IS 'input, output or door';
COMMENT ON COLUMN duework.verdicts.action IS 'flag, redact or block';
COMMENT ON COLUMN duework.verdicts.findings IS 'Array of {kind, pointer, start, end, masked, rule, action}';

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

-- Roles are cluster-wide: made if absent, never dropped, because another database may use them.
DO $$
BEGIN
  CREATE ROLE duework_reader NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL; -- another database of this cluster made it, perhaps at this very moment
END $$;
GRANT USAGE ON SCHEMA duework TO duework_reader;
GRANT SELECT ON duework.runs, duework.runs_ended, duework.runs_live, duework.runs_unstarted, duework.attempts, duework.steps, duework.occurrences, duework.upcoming,
  duework.queue, duework.workers, duework.verdicts, duework.audit TO duework_reader;
-- The safe columns of the tables that the seeds' queries name; no payload, no parameters, no digests.
GRANT SELECT (id, title, status, schedule_kind, next_run, priority, created_at, name) ON duework.task TO duework_reader;
GRANT SELECT (task_id, run_id, attempt, success, status, started_at, finished_at, duration_ms) ON duework.task_run
  TO duework_reader;
GRANT SELECT (id, task_id, run_at, locked_until, locked_by, priority) ON duework.due_work TO duework_reader;
