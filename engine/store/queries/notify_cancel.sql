-- Tell the holder of a lease that its run is to end. Promises: latency only; the flag in the row is the truth.
-- Locks: the notification queue at commit. Fence: none. The payload is an id and nothing else.
SELECT pg_notify('duework_cancel', %(run_id)s::text)
