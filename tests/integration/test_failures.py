"""pause_after_failures: what counts, what a pause leaves, and that many who look pause once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from engine import db
from engine.db import Connection, Pool, Row
from engine.metrics import Metrics
from engine.pipeline import parse_definition
from engine.service import Service
from engine.settings import Settings
from engine.store import audit, failures, leases, tasks
from engine.store.leases import CRASHES_FORGIVEN
from scheduler import reaper
from tests.factories import document, lease_one, make_task, one, queue, rows, run_row, step, until
from tests.integration.test_ledger import tick_all
from tests.polling import poll_until
from tests.processes import Crew
from workers.failures import FailureWatch
from workers.settler import Settlement, Settler

MINUTE = timedelta(minutes=1)
ERROR = {"code": "timeout", "message": "no answer from 10.0.0.7", "step": "fetch"}
REASON = "3 runs in a row failed, the last: timeout at step fetch; resume it when it is mended"
PAUSED = "SELECT status_reason FROM duework.task WHERE name = 'job' AND status = 'paused'"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with db.pool(Settings(database_url=database_url), "test", size=4) as made:
        yield made


async def ended(conn: Connection, task: Row, status: str = "failed", trigger: str = "run_now") -> None:
    """One run of the task that ended so."""
    await queue(conn, task, trigger)
    row = run_row(await lease_one(conn), status, error=None if status == "succeeded" else ERROR)
    assert await leases.settle(conn, [row], [])


async def looked(conn: Connection, task: Row) -> list[Row]:
    """What looking at the task's failures leads to."""
    return await failures.pause_failing(conn, [task["id"]], "worker-1")


async def test_a_task_is_paused_when_its_runs_keep_failing(conn: Connection) -> None:
    """The third failure in a row: paused with a reason that tells code and step, withdrawn, audited and logged."""
    task = await make_task(conn, schedule={"every": "20s"}, pause_after_failures=3)
    for _ in range(2):
        await ended(conn, task)
        assert await looked(conn, task) == []
    await tick_all(conn, await db.clock(conn))
    assert await one(conn, "SELECT count(*) FROM duework.due_work") > 0
    await ended(conn, task)
    with capture_logs() as logs:
        assert await looked(conn, task) == [{"task_id": task["id"], "name": "job", "reason": REASON}]
        assert await looked(conn, task) == []
    after = await tasks.get(conn, "job")
    assert (after["status"], after["status_reason"], after["next_run"]) == ("paused", REASON, None)
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0
    (line,) = await audit.page(conn, subject=f"task:{task['id']}")
    assert (line["actor"], line["action"], line["details"]["reason"]) == ("worker-1", "task.paused", REASON)
    assert [log["event"] for log in logs] == ["task.paused"]


async def test_what_is_under_way_goes_on(conn: Connection) -> None:
    """A pause takes back what nobody has started; the runs that a worker holds end by themselves."""
    task = await make_task(conn, pause_after_failures=1)
    await queue(conn, task)
    held = await lease_one(conn)
    await ended(conn, task)
    assert await looked(conn, task)
    assert await leases.settle(conn, [run_row(held)], []) == {held.run_id}


@pytest.mark.parametrize(
    ("runs", "paused"),
    [
        (["failed", "failed", "failed"], True),
        (["timed_out", "blocked", "failed"], True),
        (["failed", "failed"], False),
        (["failed", "failed", "succeeded"], False),
        (["failed", "succeeded", "failed", "failed"], False),
        (["succeeded", "failed", "failed", "failed"], True),
        (["failed", "canceled", "failed", "skipped", "failed"], True),
        (["failed", "failed", "canceled"], False),
    ],
)
async def test_only_unsuccessful_ends_in_a_row_count(
    conn: Connection, runs: Sequence[str], paused: bool
) -> None:
    """A success begins the count anew; canceled and skipped runs say nothing either way."""
    task = await make_task(conn, pause_after_failures=3)
    for status in runs:
        await ended(conn, task, status)
    assert bool(await looked(conn, task)) is paused


@pytest.mark.parametrize(
    ("trigger", "counts"),
    [
        ("schedule", True),
        ("event", True),
        ("pipeline", True),
        ("condition", True),
        ("backfill", False),
        ("retry", False),
    ],
)
async def test_what_repeats_the_past_does_not_count(conn: Connection, trigger: str, counts: bool) -> None:
    """Old instants that fail again, or succeed at last, tell nothing about the next one."""
    task = await make_task(conn, pause_after_failures=2)
    await ended(conn, task)
    await ended(conn, task, "succeeded" if not counts else "failed", trigger)
    assert bool(await looked(conn, task)) is counts
    if not counts:
        await ended(conn, task)
        assert await looked(conn, task)


async def test_attempts_that_are_tried_again_do_not_count(conn: Connection) -> None:
    """A run counts once, when its last attempt is over."""
    task = await make_task(conn, pause_after_failures=2, retry={"max_attempts": 5})
    await queue(conn, task)
    for _ in range(3):
        held = await lease_one(conn)
        assert await leases.retry(conn, [run_row(held, "failed", error=ERROR)], [])
    assert await looked(conn, task) == []


async def test_a_resume_begins_the_count_anew(conn: Connection) -> None:
    """What failed before the resume is forgiven; as many failures later it is paused again."""
    task = await make_task(conn, pause_after_failures=2)
    for _ in range(2):
        for _ in range(2):
            assert await looked(conn, task) == []
            await ended(conn, task)
        assert await looked(conn, task)
        await tasks.resume(conn, "job", await db.clock(conn))
    await ended(conn, task)
    assert await looked(conn, task) == []


async def test_runs_of_before_a_resume_are_forgiven_however_late_they_end(conn: Connection) -> None:
    """A slow run that fails after the resume was begun under what has been mended; a worker's clock decides nothing."""
    task = await make_task(conn, pause_after_failures=1)
    await queue(conn, task)
    held = await lease_one(conn)
    await tasks.pause(conn, "job", await db.clock(conn))
    await tasks.resume(conn, "job", await db.clock(conn))
    late = (held.leased_at + timedelta(hours=1)).isoformat()
    assert await leases.settle(conn, [run_row(held, "failed", error=ERROR, finished_at=late)], [])
    assert await looked(conn, task) == []
    await ended(conn, task)
    assert await looked(conn, task)


async def test_a_paused_or_tolerant_task_is_left_alone(conn: Connection) -> None:
    """Without pause_after_failures nothing pauses; a reason that a person gave stays."""
    tolerant = await make_task(conn, "tolerant")
    paused = await make_task(conn, "paused", pause_after_failures=1)
    await tasks.pause(conn, "paused", await db.clock(conn), "holiday")
    for task in (tolerant, paused):
        await ended(conn, task)
        assert await looked(conn, task) == []
    assert (await tasks.get(conn, "paused"))["status_reason"] == "holiday"


async def test_many_who_look_at_once_pause_once(conn: Connection, database_url: str) -> None:
    """Six processes see the same failures while others tick and settle: one pause each, one audit line, no deadlock."""
    made = [
        await make_task(conn, f"job-{number}", schedule={"every": "10s"}, pause_after_failures=2)
        for number in range(5)
    ]
    for task in made * 2:
        await ended(conn, task)
    now = await db.clock(conn)
    async with AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(await db.connect(database_url, "crowd")) for _ in range(8)]
        looks = [
            failures.pause_failing(each, [task["id"] for task in made[::turn]], f"worker-{number}")
            for number, (each, turn) in enumerate(zip(crowd[:6], [1, -1] * 3, strict=True))
        ]
        ticks = [asyncio.create_task(tick_all(each, now)) for each in crowd[6:]]
        found = await asyncio.gather(*looks)
        await asyncio.gather(*ticks)
    assert sorted(row["name"] for rows_ in found for row in rows_) == [f"job-{number}" for number in range(5)]
    assert await one(conn, "SELECT count(*) FROM duework.audit_log WHERE action = 'task.paused'") == 5
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0


async def test_dead_lettered_runs_count(conn: Connection, pool: Pool) -> None:
    """Runs whose workers died too often are failures; the reaper that ends them pauses the task."""
    task = await make_task(conn, schedule={"event": {"topic": "a"}}, pause_after_failures=2)
    for _ in range(2):
        run_id = await queue(conn, task)
        for _ in range(1 + CRASHES_FORGIVEN):
            assert (await tasks.get(conn, "job"))["status"] == "active"
            (lost,) = await leases.lease(conn, "w1", 1, timedelta(seconds=-1))
            assert lost.run_id == run_id
            await reaper.reap(pool, Metrics(), "scheduler-1")
    (row,) = await rows(conn, PAUSED)
    assert "the last: lease_expired; resume" in row["status_reason"]
    assert (
        await one(conn, "SELECT actor FROM duework.audit_log WHERE action = 'task.paused'") == "scheduler-1"
    )


async def test_the_settler_tells_whose_runs_failed(conn: Connection, pool: Pool) -> None:
    """Only what was written, only what failed for good; a result that cannot be stored has failed, too."""
    task = await make_task(conn)
    told: list[UUID] = []
    settler = Settler(pool, told.append)

    async def settle(status: str, **members: object) -> int:
        await queue(conn, task)
        held = await lease_one(conn)
        fence = held.fence - 1 if members.pop("stale", False) else held.fence
        given = {
            "started_at": held.leased_at,
            "finished_at": held.leased_at,
            "task_id": task["id"],
            **members,
        }
        kind = str(given.pop("kind", "settle"))
        await settler.add(Settlement(kind, held.run_id, fence, status, **given), lambda kept: None)
        before = len(told)
        await settler.flush()
        await conn.execute("DELETE FROM duework.due_work")
        return len(told) - before

    assert await settle("failed") == 1
    assert await settle("blocked") == 1
    assert await settle("succeeded") == 0
    assert await settle("canceled") == 0
    assert await settle("failed", stale=True) == 0
    assert await settle("failed", kind="retry") == 0
    assert await settle("succeeded", output={"x": "\x00"}) == 1
    assert set(told) == {task["id"]}


async def test_an_outage_forgets_no_failure(conn: Connection, pool: Pool) -> None:
    """What could not be looked at stays noted, and is looked at in the next round."""
    task = await make_task(conn, pause_after_failures=1)
    await ended(conn, task)
    watch = FailureWatch(pool, "worker-1")
    watch.note(task["id"])
    cut = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'duework-test' AND wait_event_type = 'Lock'"""
    with capture_logs() as logs:
        async with conn.transaction():  # the look waits for the table, and its connection is cut meanwhile
            await conn.execute("LOCK TABLE duework.task")
            service = asyncio.create_task(Service("workers.failures", watch.check, timedelta(0)).run())
            await until(conn, cut)
        await until(conn, PAUSED)
    service.cancel()
    await asyncio.wait([service])
    assert "service.failed" in {line["event"] for line in logs}


FAILING = [step("divide", "sql.query", with_={"sql": "SELECT 1 / %s", "params": ["${params.by}"]})]


async def test_a_worker_pauses_what_keeps_failing(conn: Connection, crew: Crew) -> None:
    """Processes: a schedule that fails is paused after three runs, again after a resume, and not once it is mended."""
    task = await make_task(
        conn, steps=FAILING, params={"by": 0}, schedule={"every": "1s"}, pause_after_failures=3
    )
    await crew.scheduler()
    worker = await crew.worker()
    counted = "SELECT count(*) FROM duework.task_run WHERE task_id = %s AND status = 'failed'"
    for turn in (1, 2):
        (row,) = await until(conn, PAUSED)
        assert row["status_reason"].startswith("3 runs in a row failed, the last: rejected at step divide")
        assert await one(conn, counted, task["id"]) >= 3 * turn
        await poll_until(lambda turn=turn: len(worker.events("task.paused")) == turn)  # type: ignore[misc]  # bound now
        await tasks.resume(conn, "job", await db.clock(conn))
    (row,) = await until(conn, PAUSED)
    actor = await one(conn, "SELECT max(actor) FROM duework.audit_log WHERE action = 'task.paused'")
    assert actor == await one(conn, "SELECT id FROM duework.worker")
    current = await tasks.get(conn, "job", lock=True)
    mended = document(steps=FAILING, params={"by": 1}, schedule={"every": "1s"}, pause_after_failures=3)
    await tasks.change(conn, current, parse_definition(mended), await db.clock(conn))
    await tasks.resume(conn, "job", await db.clock(conn))
    await until(conn, "SELECT FROM duework.task_run WHERE success HAVING count(*) >= 3")
    assert (await tasks.get(conn, "job"))["status"] == "active"


async def test_the_run_that_kills_its_workers_pauses_its_task(conn: Connection, crew: Crew) -> None:
    """kill -9 as often as is forgiven and once more: the run is dead, and the scheduler pauses the task."""
    nap = [step("nap", "sql.query", with_={"sql": "SELECT pg_sleep(60)::text"})]
    run_id = await queue(conn, await make_task(conn, steps=nap, pause_after_failures=1))
    await crew.scheduler()
    for attempt in range(1, 2 + CRASHES_FORGIVEN):
        worker = await crew.worker()
        await until(
            conn, "SELECT FROM duework.due_work WHERE attempt = %s AND locked_by IS NOT NULL", attempt
        )
        await worker.kill()
    (row,) = await until(conn, PAUSED)
    assert row["status_reason"] == "a run failed, the last: lease_expired; resume it when it is mended"
    assert await one(conn, "SELECT status FROM duework.runs WHERE run_id = %s", run_id) == "dead"
