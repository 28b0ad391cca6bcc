-- Accept an event once. Promises: the same (source, external_id) is one event, however often it is sent; no
-- row comes back for a repeat. Locks: a concurrent repeat waits on the key. Fence: the unique key.
INSERT INTO duework.event (id, source, external_id, topic, payload, agent_id)
VALUES (coalesce(%(id)s::uuid, duework.uuidv7()), %(source)s, coalesce(%(external_id)s, duework.uuidv7()::text), %(topic)s, %(payload)s, %(agent_id)s)
ON CONFLICT (source, external_id) DO NOTHING
RETURNING id, source, external_id, topic, payload, agent_id, accepted_at
