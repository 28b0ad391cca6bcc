"""The queue: order, slots that rotate, rows that move, and leases that come back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from engine import db
from engine.db import Connection
from engine.store import leases, tasks
from engine.store.leases import Renewal
from tests.factories import (
    dump,
    lease_one,
    make_task,
    one,
    queue,
    record,
    rows,
    run_row,
    step_row,
    until,
    waits,
)

NOW, LONG = timedelta(0), timedelta(minutes=5)


async def slots(conn: Connection) -> dict[int, str]:
    found = await rows(conn, "SELECT slot, state FROM duework.due_work_slot ORDER BY slot")
    return {row["slot"]: row["state"] for row in found}


async def lease_ids(conn: Connection, limit: int = 100, worker: str = "w1") -> list[UUID]:
    return [lease.run_id for lease in await leases.lease(conn, worker, limit, LONG)]


async def test_priority_first_then_age_across_slots(conn: Connection) -> None:
    """Priority 1 goes first wherever it lies; within a priority the older; a slot never jumps the queue."""
    task = await make_task(conn)
    order: list[tuple[int, UUID]] = []
    for _ in range(2):
        for priority in (5, 9, 1):
            run_id = await queue(conn, task, priority=priority)
            order.append((priority, run_id))
        assert await leases.rotate(conn, NOW) is not None
    by_priority = [run_id for _, run_id in sorted(order, key=lambda pair: pair[0])]
    assert await lease_ids(conn, 2) == by_priority[:2]
    assert await lease_ids(conn) == by_priority[2:]


async def test_no_row_is_leased_twice(conn: Connection, database_url: str) -> None:
    """Workers that lease at the same moment share the queue without waiting for each other."""
    task = await make_task(conn)
    expected = {await queue(conn, task) for _ in range(60)}
    others = [await db.connect(database_url, f"w{n}") for n in range(4)]
    try:
        taken = await asyncio.gather(*(lease_ids(other, 20, f"w{n}") for n, other in enumerate(others)))
    finally:
        for other in others:
            await other.close()
    found = [run_id for part in taken for run_id in part]
    assert len(found) == len(set(found))
    rest = await lease_ids(conn)
    assert set(found) | set(rest) == expected


async def test_a_lease_waits_for_its_instant(conn: Connection) -> None:
    """Rows lie ready before they are due, and `next_due` says how long a worker may sleep."""
    now = await db.clock(conn)
    await queue(conn, await make_task(conn), run_at=now + timedelta(seconds=40))
    assert await lease_ids(conn) == []
    assert await leases.next_due(conn, now=now) == timedelta(seconds=40)
    (lease,) = await leases.lease(conn, "w1", 1, LONG, now=now + timedelta(seconds=40))
    assert lease.attempt == 1
    assert await leases.next_due(conn, now=now) is None


async def test_the_far_future_waits_apart_and_is_promoted(conn: Connection) -> None:
    """A row due in an hour lies where no lease wades through it, and moves when its time comes near."""
    now = await db.clock(conn)
    run_id = await queue(conn, await make_task(conn), run_at=now + timedelta(hours=1))
    assert await one(conn, "SELECT slot FROM duework.due_work") == -1
    assert await leases.promote(conn) == 0
    near = now + timedelta(minutes=59, seconds=30)
    assert await leases.promote(conn, now=near) == 1
    assert await one(conn, "SELECT slot FROM duework.due_work") >= 0
    (lease,) = await leases.lease(conn, "w1", 1, LONG, now=now + timedelta(hours=1))
    assert lease.run_id == run_id


async def test_a_drained_slot_is_truncated_and_used_again(conn: Connection) -> None:
    """empty → writing → draining → empty, and never two slots that are written to."""
    task = await make_task(conn)
    assert await leases.rotate(conn, NOW) is None, "an empty slot needs no rotation"
    for turn in range(6):
        await queue(conn, task)
        assert await leases.rotate(conn, NOW) is not None, turn
        assert sorted((await slots(conn)).values()).count("writing") == 1
        assert await leases.truncate_drained(conn) == [], "it still holds a row"
        (lease,) = await leases.lease(conn, "w1", 1, LONG)
        await leases.settle(conn, [run_row(lease)], [])
        assert len(await leases.truncate_drained(conn)) == 1
    assert sorted((await slots(conn)).values()) == ["empty", "empty", "writing"]
    assert await one(conn, "SELECT count(*) FROM duework.task_run") == 6


async def test_a_reader_keeps_a_slot_from_being_truncated(conn: Connection, database_url: str) -> None:
    """While a transaction that has read the queue is open, truncation gives up at once and leases go on."""
    task = await make_task(conn)
    await queue(conn, task)
    await leases.rotate(conn, NOW)
    (lease,) = await leases.lease(conn, "w1", 1, LONG)
    async with await db.connect(database_url, "reader") as reader, reader.transaction():
        await rows(reader, "SELECT * FROM duework.runs")
        await leases.settle(conn, [run_row(lease)], [])
        assert await leases.truncate_drained(conn) == []
        await queue(conn, task)
        assert len(await lease_ids(conn)) == 1
    assert len(await leases.truncate_drained(conn)) == 1


async def test_a_late_writer_is_not_truncated_away(conn: Connection, database_url: str) -> None:
    """Who chose a slot before the rotation and commits after it finds its row leased, not gone."""
    task = await make_task(conn)
    await queue(conn, task)
    async with await db.connect(database_url, "writer") as writer:
        async with writer.transaction():
            late = await queue(writer, task)
            await leases.rotate(conn, NOW)
            (lease,) = await leases.lease(conn, "w1", 1, LONG)
            await leases.settle(conn, [run_row(lease)], [])
            assert await leases.truncate_drained(conn) == [], "the writer's lock is in the way"
        assert await leases.truncate_drained(conn) == [], "its row is there"
    assert await lease_ids(conn) == [late]


async def test_stragglers_move_with_their_lease(conn: Connection) -> None:
    """A long run does not keep its slot from draining: it moves, and its fence still counts."""
    await queue(conn, await make_task(conn))
    lease = await lease_one(conn)
    await leases.rotate(conn, NOW)
    before = await one(conn, "SELECT slot FROM duework.due_work")
    assert await leases.move_stragglers(conn, NOW) == 1
    assert await one(conn, "SELECT slot FROM duework.due_work") != before
    assert await leases.truncate_drained(conn) == [before]
    assert await leases.renew(conn, [(lease.run_id, lease.fence)], LONG) == {
        lease.run_id: Renewal(True, None)
    }
    assert await leases.settle(conn, [run_row(lease)], [step_row(lease)]) == {lease.run_id}


async def test_a_locked_row_costs_the_others_no_lease(conn: Connection, database_url: str) -> None:
    """A renewal does not wait for a row that somebody holds: the others are renewed, that one is not lost."""
    task = await make_task(conn)
    held = [await queue(conn, task) for _ in range(3)]
    taken = {lease.run_id: lease for lease in await leases.lease(conn, "w1", 3, LONG)}
    pairs = [(run_id, taken[run_id].fence) for run_id in held]
    async with await db.connect(database_url, "app") as app, app.transaction():
        await app.execute("SELECT 1 FROM due_work WHERE id = %s FOR UPDATE", [held[1]])
        found = await leases.renew(conn, pairs, LONG)
        assert [found[run_id].renewed for run_id in held] == [True, False, True]
    assert all(one.renewed for one in (await leases.renew(conn, pairs, LONG)).values())


@pytest.mark.parametrize("put_back", ["retry", "release"])
async def test_a_promised_cancellation_is_kept_when_the_run_goes_back(
    conn: Connection, put_back: str
) -> None:
    """A run whose worker gives it back, or fails with attempts left, ends as canceled once somebody asked for it."""
    running = await queue(conn, await make_task(conn))
    lease = await lease_one(conn)
    assert await leases.cancel(conn, running, "not needed") == "canceling"
    assert await (retrying if put_back == "retry" else giving_back)(conn, lease) == {running}
    assert await leases.lease(conn, "w2", 1, LONG) == []
    ended = await rows(conn, "SELECT status, final, error ->> 'message' AS why FROM task_run")
    assert [(one["status"], one["final"], one["why"]) for one in ended] == [("canceled", True, "not needed")]


async def test_a_run_that_is_given_back_keeps_its_place(conn: Connection) -> None:
    """What a drain gives back is leased again before what came later."""
    task = await make_task(conn)
    first, second = await queue(conn, task), await queue(conn, task)
    lease = await lease_one(conn)
    assert (lease.run_id, lease.leased_before) == (first, False)
    await giving_back(conn, lease)
    again = await lease_one(conn)
    assert (again.run_id, again.leased_before, again.attempt) == (first, True, 1)
    assert (await lease_one(conn)).run_id == second


async def settlement(conn: Connection, lease: leases.Lease) -> Any:
    return await leases.settle(conn, [run_row(lease)], [])


async def retrying(conn: Connection, lease: leases.Lease) -> Any:
    return await leases.retry(conn, [run_row(lease, "failed")], [])


async def giving_back(conn: Connection, lease: leases.Lease) -> Any:
    return await leases.release(conn, [run_row(lease)])


async def checkpointing(conn: Connection, lease: leases.Lease) -> Any:
    return await leases.checkpoint(conn, lease.run_id, lease.fence, "only", -1, record(lease).as_dict())


async def canceling(conn: Connection, lease: leases.Lease) -> Any:
    return await leases.cancel(conn, lease.run_id, "by test")


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a transaction"])
@pytest.mark.parametrize("write", [settlement, retrying, giving_back, checkpointing, canceling])
async def test_a_row_that_moves_under_a_write_is_no_lost_lease(
    conn: Connection, database_url: str, write: Any, nested: bool
) -> None:
    """A write that waited for the move of its row tries again with the same fence, in a transaction too."""
    await queue(conn, await make_task(conn))
    lease = await lease_one(conn)
    await leases.rotate(conn, NOW)
    async with (
        await db.connect(database_url, "mover") as mover,
        await db.connect(database_url, "w1") as worker,
    ):

        async def written() -> Any:
            if not nested:
                return await write(worker, lease)
            async with worker.transaction():
                return await write(worker, lease)

        async with mover.transaction():
            assert await leases.move_stragglers(mover, NOW) == 1
            racing = asyncio.create_task(written())
            async with asyncio.timeout(20):
                while not await waits(conn, worker):
                    assert not racing.done(), "it should wait for the row"
        assert await racing


async def test_an_expired_lease_is_reaped_and_the_run_goes_on(conn: Connection) -> None:
    """Each lost attempt is a row of history; after the attempts and the crashes forgiven the run is dead."""
    task = await make_task(conn, retry={"max_attempts": 2, "delay": "1s"})
    run_id = await queue(conn, task)
    for attempt in range(1, 5):
        (lease,) = await leases.lease(conn, f"w{attempt}", 1, timedelta(seconds=-1))
        assert (lease.run_id, lease.attempt) == (run_id, attempt)
        (reaped,) = await leases.reap(conn)
        assert reaped["final"] == (attempt == 4)
    history = await rows(conn, "SELECT status, final, worker, error FROM duework.task_run ORDER BY attempt")
    assert [row["status"] for row in history] == ["expired"] * 4
    assert [row["worker"] for row in history] == ["w1", "w2", "w3", "w4"]
    assert history[-1]["error"]["code"] == "lease_expired"
    assert await one(conn, "SELECT status FROM duework.runs WHERE run_id = %s", run_id) == "dead"
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0


async def test_a_lease_that_is_renewed_is_not_reaped(conn: Connection) -> None:
    """Renewal moves the end of the lease; the reaper looks at nothing else."""
    await queue(conn, await make_task(conn))
    (lease,) = await leases.lease(conn, "w1", 1, timedelta(seconds=-1))
    assert await leases.renew(conn, [(lease.run_id, lease.fence)], LONG)
    assert await leases.reap(conn) == []


async def test_cancel_ends_what_waits_and_marks_what_runs(conn: Connection) -> None:
    """A queued run ends here and now; the holder of a running one learns of it by its renewal; then nothing."""
    task = await make_task(conn)
    queued, running = await queue(conn, task), await queue(conn, task, priority=1)
    lease = await lease_one(conn)
    assert lease.run_id == running
    assert await leases.cancel(conn, queued, "not needed") == "canceled"
    assert await leases.cancel(conn, running, "not needed") == "canceling"
    assert await leases.renew(conn, [(running, lease.fence)], LONG) == {running: Renewal(True, "not needed")}
    ended = await rows(conn, "SELECT run_id, status, error FROM duework.runs WHERE finished_at IS NOT NULL")
    assert [(row["run_id"], row["status"], row["error"]["message"]) for row in ended] == [
        (queued, "canceled", "not needed")
    ]
    assert await leases.cancel(conn, queued, "again") is None


async def test_a_canceled_run_whose_worker_died_ends_as_canceled(conn: Connection) -> None:
    """The reaper honours a cancellation that its holder never read."""
    run_id = await queue(conn, await make_task(conn))
    await leases.lease(conn, "w1", 1, timedelta(seconds=-1))
    assert await leases.cancel(conn, run_id, "by hand") == "canceling"
    (reaped,) = await leases.reap(conn)
    assert reaped["final"]
    assert await one(conn, "SELECT status FROM duework.runs WHERE run_id = %s", run_id) == "canceled"


async def test_a_parked_run_that_is_canceled_keeps_its_steps(conn: Connection) -> None:
    """The steps that a waiting run has finished are history when it is canceled."""
    run_id = await queue(conn, await make_task(conn))
    lease = await lease_one(conn)
    await checkpointing(conn, lease)
    await leases.release(conn, [run_row(lease, delay=3600, state={"step": "next"})])
    assert await one(conn, "SELECT status FROM duework.runs WHERE run_id = %s", run_id) == "waiting"
    assert await leases.cancel(conn, run_id, "enough") == "canceled"
    assert await one(conn, "SELECT step FROM duework.step_run WHERE run_id = %s", run_id) == "only"
    assert await one(conn, "SELECT count(*) FROM duework.checkpoint") == 0


async def test_illegal_rows_are_refused_by_the_database(conn: Connection) -> None:
    """A lease without a holder, an attempt below zero and a priority of 0 are no rows at all."""
    await queue(conn, await make_task(conn))
    before = await dump(conn, "due_work")
    for change in (
        b"UPDATE duework.due_work SET locked_until = now()",
        b"UPDATE duework.due_work SET attempt = -1",
        b"UPDATE duework.due_work SET priority = 0",
        b"UPDATE duework.due_work SET trigger = 'whim'",
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            await conn.execute(change)
    assert await dump(conn, "due_work") == before


async def test_an_old_backup_of_leased_rows_can_be_restored(conn: Connection) -> None:
    """No constraint looks at the clock: leases that ran out long ago may be written as they were."""
    await queue(conn, await make_task(conn))
    await lease_one(conn)
    await conn.execute("UPDATE duework.due_work SET locked_until = now() - interval '1 year'")
    assert len(await leases.reap(conn)) == 1


async def test_run_now_outlives_a_pause(conn: Connection) -> None:
    """Pausing stops the schedule, not the work that somebody asked for."""
    task = await make_task(conn, schedule={"every": "1m"})
    await queue(conn, task)
    await tasks.pause(conn, task["id"], await db.clock(conn))
    assert len(await lease_ids(conn)) == 1
    await until(conn, "SELECT FROM duework.task WHERE status = 'paused' AND next_run IS NULL")
