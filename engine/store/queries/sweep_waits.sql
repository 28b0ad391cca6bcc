-- Drop waits whose run is gone: nothing in duework leaves one but a crash between two statements of one end.
-- Promises: none of a live run. Locks: the rows deleted. Fence: the absence of the due_work row.
DELETE FROM duework.wait v
WHERE v.created_at < now() - interval '10 minutes'
  AND NOT EXISTS (SELECT FROM duework.due_work w WHERE w.id = v.run_id)
