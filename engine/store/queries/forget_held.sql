-- Forget what was held of runs whose history is gone. Promises: a run that can still be seen as blocked can still be
-- decided about. Locks: the rows deleted; one that is being decided about is left for the next round. Fence: none.
DELETE FROM duework.held_run h
USING (
  SELECT g.run_id, g.attempt FROM duework.held_run g
  WHERE g.held_at < now() - %(older_than)s
    AND NOT EXISTS (SELECT FROM duework.task_run r WHERE r.run_id = g.run_id)
    AND NOT EXISTS (SELECT FROM duework.due_work w WHERE w.id = g.run_id)
  FOR UPDATE SKIP LOCKED
) old
WHERE h.run_id = old.run_id AND h.attempt = old.attempt
