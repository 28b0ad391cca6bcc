"""Promise (c): whoever lost a lease changes nothing, whichever statement is tried with the old fence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from engine import db
from engine.db import Connection
from engine.store import leases
from engine.store.leases import Lease
from tests.factories import (
    dump,
    lease_one,
    make_task,
    one,
    queue,
    record,
    rows,
    run_row,
    step,
    step_row,
    waits,
)
from tests.polling import poll_until

TABLES = ("due_work", "task_run", "step_run", "checkpoint", "occurrence")
LONG = timedelta(hours=1)

Attempted = Callable[[Connection, Lease], Awaitable[object]]


async def renew(conn: Connection, stale: Lease) -> object:
    return await leases.renew(conn, [(stale.run_id, stale.fence)], LONG)


async def settle(conn: Connection, stale: Lease) -> object:
    return await leases.settle(conn, [run_row(stale)], [step_row(stale)])


async def retry(conn: Connection, stale: Lease) -> object:
    return await leases.retry(conn, [run_row(stale, "failed")], [step_row(stale)])


async def release(conn: Connection, stale: Lease) -> object:
    return await leases.release(conn, [run_row(stale, state={"step": "only"})])


async def checkpoint(conn: Connection, stale: Lease) -> object:
    return await leases.checkpoint(conn, stale.run_id, stale.fence, "late", -1, record(stale).as_dict())


async def forget(conn: Connection, stale: Lease) -> object:
    return await leases.forget_checkpoints(conn, [stale.run_id])


FENCED = [renew, settle, retry, release, checkpoint]
WRITES = [*FENCED, forget]


async def reaped(conn: Connection, lease: Lease) -> None:
    """The lease ran out and the run lies in the queue."""
    await expire_lease(conn, lease)
    (row,) = await leases.reap(conn)
    assert row["run_id"] == lease.run_id


async def taken_over(conn: Connection, lease: Lease) -> None:
    """Somebody else holds the run."""
    await reaped(conn, lease)
    assert (await lease_one(conn, "w2")).fence > lease.fence


async def released(conn: Connection, lease: Lease) -> None:
    assert await leases.release(conn, [run_row(lease)]) == {lease.run_id}


async def released_and_taken(conn: Connection, lease: Lease) -> None:
    await released(conn, lease)
    assert (await lease_one(conn, "w2")).attempt == lease.attempt, "a given-back attempt is not used up"


async def put_back(conn: Connection, lease: Lease) -> None:
    assert await leases.retry(conn, [run_row(lease, "failed")], []) == {lease.run_id}


async def settled(conn: Connection, lease: Lease) -> None:
    assert await leases.settle(conn, [run_row(lease)], [step_row(lease)]) == {lease.run_id}


async def expire_lease(conn: Connection, lease: Lease) -> None:
    await conn.execute(
        "UPDATE duework.due_work SET locked_until = now() - interval '1 second' WHERE id = %s", [lease.run_id]
    )


LOSSES = [reaped, taken_over, released, released_and_taken, put_back, settled]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda one: one.__name__)
async def test_a_stale_fence_writes_nothing(conn: Connection, loss: Attempted) -> None:
    """After every way to lose a lease, every write with its fence is refused and leaves all rows as they were."""
    task = await make_task(conn, steps=[step("only"), step("late")])
    await queue(conn, task)
    lease = await lease_one(conn)
    assert await leases.checkpoint(conn, lease.run_id, lease.fence, "only", -1, record(lease).as_dict())
    await loss(conn, lease)
    before = await dump(conn, *TABLES)
    for write in WRITES if loss is not settled else FENCED:  # a settled run's checkpoints may be forgotten
        assert not await write(conn, lease), write.__name__
        assert await dump(conn, *TABLES) == before, write.__name__


async def test_a_good_fence_writes(conn: Connection) -> None:
    """The test above can fail: with the present fence each of these writes does something."""
    task = await make_task(conn)
    for write in FENCED:
        await queue(conn, task)
        lease = await lease_one(conn)
        before = await dump(conn, *TABLES)
        assert await write(conn, lease), write.__name__
        assert await dump(conn, *TABLES) != before, write.__name__
        await conn.execute("DELETE FROM duework.due_work")


async def test_a_fence_that_was_never_given_settles_nothing(conn: Connection) -> None:
    """Neither a guessed fence nor somebody else's ends a run, and the good rows of its batch are settled."""
    task = await make_task(conn)
    for _ in range(3):
        await queue(conn, task)
    mine, other, third = await leases.lease(conn, "w1", 3, LONG)
    batch = [run_row(mine), run_row(other, fence=mine.fence), run_row(third, fence=third.fence + 1000)]
    assert await leases.settle(conn, batch, [step_row(lease) for lease in (mine, other, third)]) == {
        mine.run_id
    }
    assert {row["run_id"] for row in await rows(conn, "SELECT run_id FROM duework.task_run")} == {mine.run_id}
    assert {row["run_id"] for row in await rows(conn, "SELECT run_id FROM duework.step_run")} == {mine.run_id}
    assert await one(conn, "SELECT count(*) FROM duework.due_work WHERE locked_by = 'w1'") == 2


async def test_two_workers_settle_the_same_run_at_once(conn: Connection, database_url: str) -> None:
    """Of two settlements that race with the same fence, one wins and the other is told."""
    await queue(conn, await make_task(conn))
    lease = await lease_one(conn)
    async with (
        await db.connect(database_url, "first") as one_,
        await db.connect(database_url, "second") as two,
    ):
        async with one_.transaction():
            assert await leases.settle(one_, [run_row(lease)], []) == {lease.run_id}
            racing = asyncio.create_task(leases.settle(two, [run_row(lease)], []))
            await poll_until(lambda: waits(conn, two))
        assert await racing == set()
    assert await one(conn, "SELECT count(*) FROM duework.task_run") == 1


async def test_fences_grow_over_all_runs(conn: Connection) -> None:
    """A later lease of any run has a larger fence, so that tools may compare them."""
    task = await make_task(conn)
    await queue(conn, task)
    await queue(conn, task)
    fences = []
    for _ in range(3):
        held = await leases.lease(conn, "w1", 2, LONG)
        fences += sorted(lease.fence for lease in held)
        await leases.release(conn, [run_row(lease) for lease in held])
    assert fences == sorted(set(fences))
