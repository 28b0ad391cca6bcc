-- Wake the workers: one notification per transaction, without a payload, so that equal ones fold into one.
-- Promises: delivered at commit, or never; polling is the truth. Locks: the notification queue at commit.
-- Fence: none.
SELECT pg_notify('duework_work', '')
