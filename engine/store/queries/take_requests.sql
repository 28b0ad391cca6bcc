-- Take what applications asked for, in the order in which they asked: up to %(limit)s requests from the number
-- %(first)s on. Only those from a number on: under a pinned horizon a look from the very first would wade through every
-- request of the day. One that committed late, with a number from before, is found by a look from 0.
-- Promises: each is taken by one transaction, and is gone when that commits; what it held goes with it.
-- Locks: FOR UPDATE SKIP LOCKED on the rows. Fence: the deletion.
DELETE FROM duework.request q
USING (
  SELECT r.number FROM duework.request r
  WHERE r.number >= %(first)s
  ORDER BY r.number
  LIMIT %(limit)s
  FOR UPDATE SKIP LOCKED
) taken
WHERE q.number = taken.number
RETURNING q.number, q.id, q.kind, q.actor, q.task_id, q.run_at, q.priority, q.run_id, q.topic, q.source, q.external_id,
          q.reason, q.content, q.created_at
