-- How far the audit log is sealed, and whether a seal from before is still what it was. Promises: a snapshot; `known` is
-- null where there is no such seal. Locks: none. Fence: none.
SELECT s.seals, s.lines, s.dropped, u.unsealed, h.number, encode(h.digest, 'hex') AS digest, encode(k.digest, 'hex') AS known
FROM (SELECT count(*) AS seals, coalesce(sum(q.lines) FILTER (WHERE q.dropped_at IS NULL), 0) AS lines,
             coalesce(sum(q.lines) FILTER (WHERE q.dropped_at IS NOT NULL), 0) AS dropped
      FROM duework.audit_seal q) s
CROSS JOIN (SELECT count(*) AS unsealed FROM duework.audit_log a WHERE a.seal IS NULL) u
LEFT JOIN (SELECT q.number, q.digest FROM duework.audit_seal q ORDER BY q.number DESC LIMIT 1) h ON true
LEFT JOIN duework.audit_seal k ON k.number = %(number)s
