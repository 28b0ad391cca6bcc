-- Who wrote a version of a task. Promises: the scopes as they are now, none for an agent that is not active or whose row
-- is gone; nothing for a version without an author. Locks: none. Fence: none.
SELECT v.author AS id, coalesce(a.name, v.author::text) AS name, CASE WHEN a.active THEN a.scopes ELSE '{}' END AS scopes
FROM duework.task_version v LEFT JOIN duework.agent a ON a.id = v.author
WHERE v.task_id = %(task_id)s AND v.version = %(version)s AND v.author IS NOT NULL
