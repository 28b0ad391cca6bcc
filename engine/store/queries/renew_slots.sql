-- Prolong the numbers that a process holds. Promises: those that come back are its own until now + ttl; the others are
-- lost. Locks: the rows, which nobody else waits for (take_slots skips them). Fence: held_by and taken_at.
UPDATE duework.tool_slot s
SET held_until = coalesce(%(now)s::timestamptz, now()) + %(ttl)s::interval
FROM unnest(%(tools)s::text[], %(slots)s::integer[], %(taken_at)s::timestamptz[]) AS i(tool, slot, taken_at)
WHERE s.tool = i.tool AND s.slot = i.slot AND s.held_by = %(holder)s AND s.taken_at = i.taken_at
  AND s.held_until > coalesce(%(now)s::timestamptz, now())
RETURNING s.tool, s.slot
