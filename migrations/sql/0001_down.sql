-- Everything that 0001 made, but for the roles, which other databases of the cluster may use.
DROP VIEW duework.audit, duework.verdicts, duework.workers, duework.queue, duework.upcoming,
  duework.occurrences, duework.steps, duework.attempts, duework.runs, duework.runs_unstarted, duework.runs_live, duework.runs_ended;
DROP TABLE duework.idempotency_key, duework.audit_log, duework.refusal, duework.scheduler, duework.worker,
  duework.event, duework.checkpoint, duework.step_run, duework.task_run, duework.due_work_slot, duework.concurrency_slot, duework.dedupe_key,
  duework.due_work, duework.occurrence, duework.task_version, duework.task, duework.agent_token,
  duework.agent;
DROP FUNCTION duework.drop_partitions(interval);
DROP FUNCTION duework.ensure_partitions(timestamptz, integer);
DROP FUNCTION duework.truncate_slot(smallint);
DROP FUNCTION duework.rotate_slots(interval);
DROP FUNCTION duework.refuse_change();
DROP FUNCTION duework.slot_for(timestamptz, timestamptz);
DROP SEQUENCE duework.fence;
DROP FUNCTION duework.uuidv7();
