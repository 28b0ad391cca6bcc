-- What the gate said: kinds and places, never the values.
SELECT coalesce(r.task, v.tool) AS at, v.step, v.direction, v.action,
       (SELECT string_agg(DISTINCT coalesce(f ->> 'kind', f ->> 'family'), ', ')
        FROM jsonb_array_elements(v.findings) f) AS found
FROM duework.verdicts v
LEFT JOIN duework.runs r USING (run_id)
ORDER BY v.at;
