-- Erase a request that this transaction took, with what it held. Promises: it is gone exactly if its answer is there.
-- Locks: the row, which the transaction has. Fence: the row's own deletion.
DELETE FROM duework.request q WHERE q.number = %(number)s
