-- Move what is left in slots that have been draining for long (long runs, waiting rows) to the writing slot.
-- Promises: a row is moved once and stays itself, lease and fence included. Locks: FOR UPDATE SKIP LOCKED on
-- the rows moved; a fenced statement that waited for one gets SQLSTATE 40001 and tries again.
-- Fence: unchanged.
WITH left_over AS MATERIALIZED (
  SELECT w.id, w.slot
  FROM duework.due_work w
  WHERE w.slot = ANY (ARRAY(SELECT s.slot FROM duework.due_work_slot s
                            WHERE s.state = 'draining' AND s.changed_at < now() - %(older_than)s::interval))
  LIMIT %(limit)s
  FOR UPDATE SKIP LOCKED
)
UPDATE duework.due_work w
SET slot = (SELECT s.slot FROM duework.due_work_slot s WHERE s.state = 'writing')
FROM left_over l WHERE w.id = l.id AND w.slot = l.slot
RETURNING w.id AS run_id
