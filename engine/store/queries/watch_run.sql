-- Mark a run as one that somebody waits for, so that its end looks for them.
-- Promises: no row when it is not live: its end is history by then. Locks: the due_work row, until the wait is
-- committed, so that the run cannot end in between; whoever waits takes this lock before that of the own row, as an
-- end does. Fence: none is needed to mark.
UPDATE duework.due_work w SET linked = true WHERE w.id = %(run_id)s RETURNING w.id AS run_id
