-- How many steps wait, by what they wait for: what /metrics shows. Promises: every kind has a row, and what has an
-- answer, or whose time is over, is in none. Locks: none. Fence: none.
SELECT k.kind, count(v.run_id) AS count
FROM unnest(ARRAY['sleep', 'event', 'approval', 'run']) AS k(kind)
LEFT JOIN duework.wait v ON v.kind = k.kind AND v.resolved_at IS NULL AND v.taken_at IS NULL
  AND (v.deadline IS NULL OR v.deadline > now())
GROUP BY k.kind
