"""Worker processes: how they wake, drain, cancel, and are supervised."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta

from engine import db
from engine.db import Connection
from engine.store import leases, runs
from tests.factories import make_task, one, queue, rows, step, until
from tests.processes import Crew
from workers.runner import Held

NEVER = timedelta(minutes=5)
HELD = "SELECT FROM duework.due_work WHERE locked_by IS NOT NULL HAVING count(*) >= %s"
ENDED = "SELECT * FROM duework.runs WHERE run_id = %s AND finished_at IS NOT NULL"
PAUSE = [
    step("nap", "sql.query", with_={"sql": "SELECT pg_sleep(%s)::text", "params": ["${params.seconds}"]})
]


async def test_notification_wakes_a_worker_that_would_sleep_for_minutes(conn: Connection, crew: Crew) -> None:
    """With LISTEN a run starts at once, whatever the poll interval; a row without a notification waits for it."""
    task = await make_task(conn)
    await crew.worker(poll_interval=NEVER)
    listening = (
        "SELECT FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'duework-listen' AND query LIKE '%%request%%'"
    )
    await until(conn, listening)
    run_id = await queue(conn, task)
    (run,) = await until(conn, ENDED, run_id)
    assert run["status"] == "succeeded"


async def test_without_a_notification_polling_finds_the_work(conn: Connection, crew: Crew) -> None:
    """A lost notification costs latency only, and a worker without LISTEN lives on polling."""
    task = await make_task(conn)
    worker = await crew.worker(poll_only=True)
    assert not [line for line in worker.events("service.started") if line["room"] == "workers.listen"]
    insert = """INSERT INTO duework.due_work (slot, task_id, task_version, trigger, run_at)
      VALUES (duework.slot_for(now(), now()), %s, 1, 'run_now', now()) RETURNING id"""
    await until(conn, ENDED, await one(conn, insert, task["id"]))


async def test_work_starts_on_its_instant(conn: Connection, crew: Crew) -> None:
    """A row that lies ready is started when it is due, not before and not at the next poll."""
    task = await make_task(conn)
    await crew.worker(poll_interval=NEVER)
    due = await db.clock(conn) + timedelta(seconds=2)
    run_id = await queue(conn, task, run_at=due)
    (run,) = await until(conn, ENDED, run_id)
    assert run["started_at"] >= due


async def test_a_drain_finishes_what_is_short_and_gives_back_what_is_long(
    conn: Connection, crew: Crew
) -> None:
    """SIGTERM: no new work, short runs end, long ones return with their attempt unused, the worker's row goes."""
    task = await make_task(conn, steps=PAUSE)
    worker = await crew.worker(drain_timeout=timedelta(seconds=2), concurrency=2)
    short, long = (
        await queue(conn, task, params={"seconds": 1}),
        await queue(conn, task, params={"seconds": 60}),
    )
    await until(conn, HELD, 2)
    worker.signal(signal.SIGTERM)
    await worker.logged("worker.draining")
    waiting = await queue(conn, task, params={"seconds": 0})
    assert await worker.ended() == 0
    assert [row["status"] for row in await rows(conn, ENDED, short)] == ["succeeded"]
    left = await rows(conn, "SELECT id, attempt, locked_by FROM duework.due_work ORDER BY created_at")
    assert [(row["id"], row["attempt"], row["locked_by"]) for row in left] == [
        (long, 0, None),
        (waiting, 0, None),
    ]
    assert await one(conn, "SELECT count(*) FROM duework.worker") == 0
    assert await one(conn, "SELECT count(*) FROM duework.task_run") == 1


async def test_a_second_signal_ends_the_worker_on_the_spot(conn: Connection, crew: Crew) -> None:
    """Who cannot wait gets out at once; what the worker held is reaped when its leases run out."""
    run_id = await queue(conn, await make_task(conn, steps=PAUSE), params={"seconds": 60})
    worker = await crew.worker(drain_timeout=NEVER)
    await until(conn, HELD, 1)
    worker.signal(signal.SIGTERM)
    await worker.logged("worker.draining")
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 130
    assert await one(conn, "SELECT locked_by IS NOT NULL FROM duework.due_work")
    await crew.scheduler()
    await until(
        conn, "SELECT FROM duework.task_run WHERE run_id = %s AND status = 'expired' AND NOT final", run_id
    )


async def test_an_operator_drains_a_worker_by_its_row(conn: Connection, crew: Crew) -> None:
    """Setting `draining` in the worker's row is the same as a SIGTERM."""
    worker = await crew.worker()
    await conn.execute("UPDATE duework.worker SET draining = true")
    assert await worker.ended() == 0


async def test_a_running_run_is_canceled_at_once(conn: Connection, crew: Crew) -> None:
    """NOTIFY carries the cancellation to the holder, which cancels the tool's call and settles."""
    run_id = await queue(conn, await make_task(conn, steps=PAUSE), params={"seconds": 60})
    await crew.worker(lease_seconds=NEVER)
    await until(
        conn,
        "SELECT FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%%' AND state = 'active'",
    )
    assert await leases.cancel(conn, run_id, "stop it") == "canceling"
    (run,) = await until(conn, ENDED, run_id)
    assert (run["status"], run["attempt"]) == ("canceled", 1)
    awake = """SELECT FROM pg_stat_activity WHERE datname = current_database()
      AND query LIKE 'SELECT pg_sleep%%' AND state = 'active' HAVING count(*) = 0"""
    await until(conn, awake)


async def test_a_cancellation_reaches_a_worker_that_does_not_listen(conn: Connection, crew: Crew) -> None:
    """Without LISTEN the renewal brings it."""
    run_id = await queue(conn, await make_task(conn, steps=PAUSE), params={"seconds": 60})
    await crew.worker(poll_only=True)
    await until(conn, HELD, 1)
    assert await leases.cancel(conn, run_id, "stop it") == "canceling"
    (run,) = await until(conn, ENDED, run_id)
    assert (run["status"], run["error"]["message"]) == ("canceled", "stop it")


async def test_a_long_run_is_renewed_while_the_queue_rotates(conn: Connection, crew: Crew) -> None:
    """A run several leases long, whose row moves from slot to slot meanwhile, is executed once."""
    run_id = await queue(conn, await make_task(conn, steps=PAUSE), params={"seconds": 9})
    await crew.worker(lease_seconds=timedelta(seconds=3))
    await until(conn, HELD, 1)
    for _ in range(3):
        before = await one(conn, "SELECT slot FROM duework.due_work")
        assert await leases.rotate(conn, timedelta(0)) is not None
        await leases.move_stragglers(conn, timedelta(0))
        assert await one(conn, "SELECT slot FROM duework.due_work") != before
        await leases.truncate_drained(conn)
    (run,) = await until(conn, ENDED, run_id)
    assert (run["status"], run["attempt"]) == ("succeeded", 1)
    assert await one(conn, "SELECT count(*) FROM duework.task_run") == 1


async def test_a_supervisor_restarts_what_dies_and_drains_all(conn: Connection, crew: Crew) -> None:
    """Of two workers one is killed and comes again; SIGTERM ends both, and the supervisor with 0."""
    supervisor = crew.start("tests.supervising", processes=2)
    first = {row["pid"] for row in await until_workers(conn, 2)}
    os.kill(min(first), signal.SIGKILL)
    await conn.execute("DELETE FROM duework.worker WHERE pid = %s", [min(first)])
    second = {row["pid"] for row in await until_workers(conn, 2)}
    assert len(first & second) == 1
    supervisor.signal(signal.SIGTERM)
    assert await supervisor.ended() == 0
    assert await rows(conn, "SELECT * FROM duework.worker") == []


async def until_workers(conn: Connection, count: int) -> list[db.Row]:
    await until(conn, "SELECT FROM duework.worker HAVING count(*) = %s", count)
    return await rows(conn, "SELECT pid FROM duework.worker")


async def test_workers_without_their_supervisor_drain(conn: Connection, crew: Crew) -> None:
    """Killed supervisors leave no workers behind that nobody restarts or stops."""
    supervisor = crew.start("tests.supervising", processes=2)
    await until_workers(conn, 2)
    await supervisor.kill()
    await until(conn, "SELECT WHERE NOT EXISTS (SELECT FROM duework.worker)")


async def test_a_run_of_another_task_is_queued_once(conn: Connection) -> None:
    """task.run_now under the same idempotency key answers with the same run, however often it is tried."""
    task = await make_task(conn)
    parent = await queue(conn, task)
    request = runs.Request(task["id"], "pipeline", parent_run_id=parent)
    found = []
    for _ in range(3):
        async with conn.transaction():
            found.append(await runs.enqueue_once(conn, request, f"{parent}:step"))
    assert found == [{"run_id": found[0]["run_id"], "deduplicated": False}] * 3
    assert await one(conn, "SELECT count(*) FROM duework.due_work WHERE parent_run_id = %s", parent) == 1


async def test_what_is_due_in_a_moment_is_leased_and_held(conn: Connection) -> None:
    """A worker takes a run shortly before its instant; one with a concurrency key only when it has come."""
    at = await db.clock(conn)
    plain, keyed = await make_task(conn), await make_task(conn, "keyed", concurrency={"limit": 1})
    for task in (plain, keyed):
        await queue(conn, task, run_at=at)
    early, moment, lease = at - timedelta(milliseconds=20), timedelta(milliseconds=25), timedelta(seconds=30)
    assert await leases.take(conn, "w1", 9, lease, now=early) == ([], [])
    (held,), _ = await leases.take(conn, "w1", 9, lease, ahead=moment, now=early)
    assert held.task_id == plain["id"]
    received = time.monotonic()
    waiting = Held(held, received + 30, received - 5, received)
    assert 0 < waiting.early() <= 0.02, "counted from the lease's arrival, not from when it was asked for"
    (held,), _ = await leases.take(conn, "w1", 9, lease, ahead=moment, now=at)
    assert held.task_id == keyed["id"]
