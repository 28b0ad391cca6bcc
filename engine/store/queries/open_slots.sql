-- Rows for the numbers of a tool's limit, free. Promises: existing ones are left alone. Locks: their keys, in order.
-- Fence: the primary key.
INSERT INTO duework.tool_slot (tool, slot)
SELECT %(tool)s, g.slot FROM generate_series(0, %(limit)s::integer - 1) AS g(slot) ORDER BY g.slot
ON CONFLICT (tool, slot) DO NOTHING
