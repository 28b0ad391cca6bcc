-- Keep what the gate refused at the door: kinds and places, never values. Promises, locks, fence: a plain row.
INSERT INTO duework.refusal (surface, task_id, agent_id, verdict)
VALUES (%(surface)s, %(task_id)s, %(agent_id)s, %(verdict)s)
