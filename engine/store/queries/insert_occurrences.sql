-- Write instants into the ledger, and those that are new into the queue.
-- Promises: an instant of a task becomes work at most once, however many schedulers try; returns the new ones.
-- What a task says of all its runs (version, priority) is read from its row, which lock_due_tasks holds.
-- Locks: a second scheduler waits on the key until the first commits. Fence: the primary key
-- (task_id, scheduled_for).
WITH input AS (
  SELECT * FROM unnest(%(task_id)s::uuid[], %(scheduled_for)s::timestamptz[], %(run_at)s::timestamptz[],
                       %(expires_at)s::timestamptz[])
    AS i(task_id, scheduled_for, run_at, expires_at)
), fresh AS (
  INSERT INTO duework.occurrence (task_id, scheduled_for, run_id, disposition)
  SELECT i.task_id, i.scheduled_for, duework.uuidv7(), 'scheduled' FROM input i
  ON CONFLICT (task_id, scheduled_for) DO NOTHING
  RETURNING task_id, scheduled_for, run_id
)
INSERT INTO duework.due_work (id, slot, task_id, task_version, trigger, scheduled_for, run_at, expires_at, priority)
SELECT f.run_id, duework.slot_for(i.run_at, coalesce(%(now)s::timestamptz, now())), t.id, t.version,
       'schedule', i.scheduled_for, i.run_at, i.expires_at, t.priority
FROM fresh f JOIN input i USING (task_id, scheduled_for) JOIN duework.task t ON t.id = i.task_id
RETURNING id AS run_id
