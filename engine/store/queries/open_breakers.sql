-- Rows for the breakers of tools that failed for the first time, closed. Promises: existing ones are left alone.
-- Locks: their keys, in order. Fence: the primary key.
INSERT INTO duework.tool_breaker (tool)
SELECT i.tool FROM unnest(%(tools)s::text[]) AS i(tool) ORDER BY i.tool
ON CONFLICT (tool) DO NOTHING
