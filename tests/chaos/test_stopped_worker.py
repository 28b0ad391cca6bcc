"""Promise (c) with real processes: a worker that was stopped past its lease changes nothing when it wakes."""

from __future__ import annotations

import signal
from datetime import timedelta

from engine import db
from tests.factories import make_task, queue, rows, step, until
from tests.processes import Crew

PAUSE = "SELECT pg_sleep((SELECT pause FROM public.pace))::text"
NOTE = "INSERT INTO public.effect (key) VALUES (%s) RETURNING key"
STEPS = [
    step("linger", "sql.query", with_={"sql": PAUSE}),
    step("note", "sql.execute", with_={"sql": NOTE, "params": ["${run.attempt}"]}),
]


HELD = "SELECT locked_by FROM duework.due_work WHERE attempt = %s AND locked_by IS NOT NULL"


async def test_a_stopped_worker_loses_its_run_and_nothing_else_happens(
    conn: db.Connection, crew: Crew
) -> None:
    """Stopped past its lease and continued, it finds its lease lost and ends the run locally; the heir settles."""
    await conn.execute("CREATE TABLE public.effect (key text)")
    await conn.execute("CREATE TABLE public.pace AS SELECT 3.0::float AS pause")
    run_id = await queue(conn, await make_task(conn, steps=STEPS, output="${run.attempt}"))
    first = await crew.worker()
    (before,) = await until(conn, HELD, 1)
    first.signal(signal.SIGSTOP)

    await crew.scheduler()
    await crew.worker()
    (after,) = await until(conn, HELD, 2)
    assert after["locked_by"] != before["locked_by"]
    # The heir still works on the run, and the query that the stopped worker waits for is long answered.
    first.signal(signal.SIGCONT)
    lost = await first.logged("lease.lost")
    assert lost["run_id"] == str(run_id)

    ended = "SELECT status, output, worker FROM duework.runs WHERE run_id = %s AND finished_at IS NOT NULL"
    (run,) = await until(conn, ended, run_id)
    assert (run["status"], run["output"], run["worker"]) == ("succeeded", 2, after["locked_by"])
    attempts = await rows(conn, "SELECT status, final FROM duework.task_run ORDER BY attempt")
    assert [(a["status"], a["final"]) for a in attempts] == [("expired", False), ("succeeded", True)]
    assert [row["key"] for row in await rows(conn, "SELECT key FROM public.effect")] == ["2"]

    # It was not punished for it: it leases and settles again.
    await conn.execute("UPDATE public.pace SET pause = 0")
    for member in crew.members[1:]:
        await member.kill()
    again = await queue(conn, await make_task(conn, "again", STEPS))
    (run,) = await until(conn, ended, again)
    assert (run["status"], run["worker"]) == ("succeeded", before["locked_by"])


async def test_a_worker_cut_off_from_renewal_stops_by_itself(conn: db.Connection, crew: Crew) -> None:
    """A worker whose lease was taken away while it works learns of it by its renewal and cancels the tool call."""
    await conn.execute("CREATE TABLE public.effect (key text)")
    await conn.execute("CREATE TABLE public.pace AS SELECT 60.0::float AS pause")
    run_id = await queue(conn, await make_task(conn, steps=STEPS))
    worker = await crew.worker(lease_seconds=timedelta(seconds=3))
    await until(conn, HELD, 1)
    asleep = """SELECT pid FROM pg_stat_activity
      WHERE datname = current_database() AND query = %s AND state = 'active'"""
    await until(conn, asleep, PAUSE)
    # As if somebody else had taken and ended the run.
    await conn.execute("DELETE FROM duework.due_work WHERE id = %s", [run_id])
    await worker.logged("lease.lost")
    awake = """SELECT FROM pg_stat_activity
      WHERE datname = current_database() AND query = %s AND state = 'active' HAVING count(*) = 0"""
    await until(conn, awake, PAUSE)
    assert await rows(conn, "SELECT * FROM duework.task_run") == []
    assert await rows(conn, "SELECT * FROM duework.step_run") == []
    assert await rows(conn, "SELECT * FROM public.effect") == []
