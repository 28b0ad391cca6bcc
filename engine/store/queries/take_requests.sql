-- Take what applications asked for, in the order in which they asked: up to %(limit)s requests from the number
-- %(first)s on. Only those from a number on: under a pinned horizon a look from the very first would wade through every
-- request of the day. One that committed late, with a number from before, is found by a look from 0.
-- What they hold comes as text: jsonb has numbers and depths that would fail here, for all of them.
-- Promises: each is taken by one transaction at a time. Locks: FOR UPDATE SKIP LOCKED on the rows. Fence: delete_request.
SELECT r.number, r.id, r.kind, r.actor, r.task_id, r.run_at, r.priority, r.run_id, r.topic, r.source, r.external_id,
       r.reason, r.content::text AS content
FROM duework.request r
WHERE r.number >= %(first)s
ORDER BY r.number
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED
