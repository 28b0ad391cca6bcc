-- Give numbers back. Promises: one that somebody else has taken meanwhile is left to them. Locks: the rows, which
-- nobody else waits for. Fence: held_by and taken_at.
UPDATE duework.tool_slot s
SET held_by = NULL, taken_at = NULL, held_until = NULL
FROM unnest(%(tools)s::text[], %(slots)s::integer[], %(taken_at)s::timestamptz[]) AS i(tool, slot, taken_at)
WHERE s.tool = i.tool AND s.slot = i.slot AND s.held_by = %(holder)s AND s.taken_at = i.taken_at
