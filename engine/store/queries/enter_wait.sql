-- Begin a step's wait, or see what has become of it: one statement for the first call and for every later one.
-- Promises: one row per step and item, whose deadline stands however often the step is asked; an answer that is there
-- is taken, and stays for whoever asks again; a deadline that has passed without one ends the wait (`late`): its row is
-- gone, and the next call begins anew. That of a run stays, and nobody is woken for it any more, because it names the
-- child; and that of a sleep, which has no answer. No row at all comes back when the lease is lost. A wait that another transaction is answering meanwhile still looks open here:
-- its run is woken as soon as it has parked.
-- Locks: the due_work row, then the row of the wait. Fence: (id, fence), and only while it is leased.
WITH held AS MATERIALIZED (
  SELECT w.id, w.slot, w.linked, coalesce(%(now)s::timestamptz, now()) AS at
  FROM duework.due_work w
  WHERE w.id = %(run_id)s AND w.fence = %(fence)s AND w.locked_until IS NOT NULL
  FOR NO KEY UPDATE
), marked AS (
  UPDATE duework.due_work w SET linked = true FROM held h WHERE w.id = h.id AND w.slot + 0 = h.slot AND NOT h.linked
), late AS (
  DELETE FROM duework.wait v USING held h
  WHERE v.run_id = h.id AND v.step = %(step)s AND v.item = %(item)s
    AND v.kind NOT IN ('sleep', 'run') AND v.resolved_at IS NULL AND v.deadline <= h.at
  RETURNING v.run_id
), taken AS (
  UPDATE duework.wait v SET taken_at = h.at
  FROM held h
  WHERE v.run_id = h.id AND v.step = %(step)s AND v.item = %(item)s
    AND v.taken_at IS NULL AND (v.resolved_at IS NOT NULL OR (v.kind IN ('run', 'sleep') AND v.deadline <= h.at))
), made AS (
  INSERT INTO duework.wait (run_id, step, item, kind, topic, filter, given, prompt, approvers, child_run_id,
    created_at, deadline)
  SELECT h.id, %(step)s, %(item)s, %(kind)s, %(topic)s, %(filter)s, %(given)s, %(prompt)s, %(approvers)s,
         %(child_run_id)s, h.at, coalesce(%(until)s::timestamptz, h.at + %(timeout)s::interval)
  FROM held h
  WHERE NOT EXISTS (SELECT FROM duework.wait v
                    WHERE v.run_id = h.id AND v.step = %(step)s AND v.item = %(item)s)
  RETURNING *
)
SELECT h.at, f.created_at, f.deadline, f.resolved_by, f.resolution,
       EXISTS (SELECT FROM late) OR (f.kind = 'run' AND f.resolved_at IS NULL AND f.deadline <= h.at) AS late
FROM held h
CROSS JOIN LATERAL (
  SELECT * FROM made
  UNION ALL
  SELECT * FROM duework.wait v WHERE v.run_id = h.id AND v.step = %(step)s AND v.item = %(item)s
) f
