-- The finished steps of live runs. Promises: what was committed before the lease. Locks: none. Fence: none.
SELECT run_id, step, item, record FROM duework.checkpoint WHERE run_id = ANY(%(run_ids)s::uuid[])
ORDER BY run_id, (record ->> 'position')::integer, item
