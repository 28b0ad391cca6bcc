"""The end of a run tells who waits for it: every path by which one ends, at every moment of the wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from engine import db
from engine.db import Connection, Row
from engine.store import concurrency, leases, waits
from engine.store.leases import Lease
from tests.factories import lease_one, make_task, one, queue, rows, run_row
from tests.factories import waits as blocked
from tests.integration.test_waits import DAY, LONG, awake, begin, park, running
from tests.polling import poll_until


# How a run can end that somebody waits for. Each is given the child's lease, or its id while nobody has begun it.
async def settled(conn: Connection, child: Lease) -> None:
    await leases.settle(conn, [run_row(child, output={"n": 1})], [])


async def canceled(conn: Connection, child: Lease) -> None:
    await park(conn, child)
    assert await leases.cancel(conn, child.run_id, "no") == "canceled"


async def told_to_end(conn: Connection, child: Lease, how: Callable[..., Awaitable[Any]]) -> None:
    assert await leases.cancel(conn, child.run_id, "no") == "canceling"
    row = run_row(child, "failed", delay=1)
    await how(conn, [row], []) if how is leases.retry else await how(conn, [row])


async def retried(conn: Connection, child: Lease) -> None:
    await told_to_end(conn, child, leases.retry)


async def released(conn: Connection, child: Lease) -> None:
    await told_to_end(conn, child, leases.release)


async def dead(conn: Connection, child: Lease) -> None:
    lost = "UPDATE duework.due_work SET attempt = 9, locked_until = now() - interval '1 s' WHERE id = %s"
    await conn.execute(lost.encode(), [child.run_id])
    (row,) = await leases.reap(conn)
    assert row["final"]


ENDS: Mapping[str, tuple[Callable[[Connection, Lease], Awaitable[None]], str]] = {
    "settled": (settled, "succeeded"),
    "canceled": (canceled, "canceled"),
    "retried": (retried, "canceled"),
    "released": (released, "canceled"),
    "dead": (dead, "dead"),
}


async def family(conn: Connection) -> tuple[Lease, Lease]:
    """A parent that has parked until its child ends, and the child, which waits for something itself."""
    parent = await running(conn)
    child = await running(conn, "child", retry={"max_attempts": 3})
    async with conn.transaction():
        assert await waits.watch(conn, child.run_id)
        await begin(conn, parent, "run", child_run_id=child.run_id)
    await begin(conn, child, "approval")
    await conn.execute(
        "UPDATE duework.due_work SET locked_until = locked_until + interval '1 day' WHERE id = %s",
        [parent.run_id],
    )
    await park(conn, parent)
    return parent, child


@pytest.mark.parametrize("how", ENDS)
async def test_every_end_of_a_child_wakes_its_parent(conn: Connection, how: str) -> None:
    """By settling, cancelling, or dying: the parent has its status, and the child's own waits are gone."""
    end, status = ENDS[how]
    parent, child = await family(conn)
    async with conn.transaction():
        await end(conn, child)
    assert await awake(conn, parent)
    found = await begin(conn, await lease_one(conn), "run", child_run_id=child.run_id)
    assert found.resolution is not None
    assert found.resolution["status"] == status
    assert found.resolution["output"] == ({"n": 1} if status == "succeeded" else None)
    assert [row["run_id"] for row in await rows(conn, "SELECT run_id FROM duework.wait")] == [parent.run_id]


async def unstarted(conn: Connection, task: Row) -> UUID:
    """An occurrence of the task that is due soon; its run."""
    now = await db.clock(conn)
    run_id = await queue(
        conn, task, "schedule", scheduled_for=now + LONG, run_at=now + LONG, expires_at=now + DAY
    )
    await conn.execute(
        "INSERT INTO duework.occurrence (task_id, scheduled_for, run_id, disposition) VALUES (%s, %s, %s, 'scheduled')",
        [task["id"], now + LONG, run_id],
    )
    return run_id


@pytest.mark.parametrize("how", ["canceled", "skipped", "missed", "withdrawn"])
async def test_a_child_that_nobody_began_wakes_its_parent_too(conn: Connection, how: str) -> None:
    """A run that a dedupe key named may be canceled, skipped or missed, or withdrawn with its instant."""
    task = await make_task(conn, "child")
    child = await unstarted(conn, task)
    parent = await running(conn)
    async with conn.transaction():
        await waits.watch(conn, child)
        await begin(conn, parent, "run", child_run_id=child)
    await park(conn, parent)
    async with conn.transaction():
        if how == "canceled":
            await leases.cancel_unstarted(conn, [child], "no")
        elif how == "skipped":
            await concurrency.skip(conn, {child: "taken"})
        elif how == "missed":
            late = """UPDATE duework.due_work SET run_at = now() - interval '2 s', expires_at = now() - interval '1 s',
              slot = duework.slot_for(now(), now()) WHERE id = %s"""
            await conn.execute(late.encode(), [child])
            assert len(await leases.expire(conn)) == 1
        else:
            assert await leases.withdraw(conn, task["id"]) == 1
    resolution = await one(conn, "SELECT resolution FROM duework.wait")
    assert resolution["status"] == ("gone" if how == "withdrawn" else how)
    assert await awake(conn, parent)


async def test_a_child_that_ends_before_it_is_watched(conn: Connection, database_url: str) -> None:
    """Who begins to wait while the child is ending waits for that commit, and is told that it is over."""
    child, parent = await running(conn, "child"), await running(conn)
    async with await db.connect(database_url, "worker") as worker:
        async with conn.transaction():
            await settled(conn, child)
            watching = asyncio.create_task(waits.watch(worker, child.run_id))
            await poll_until(lambda: blocked(conn, worker))
        assert not await watching
    await begin(conn, parent, "run", child_run_id=child.run_id)
    async with conn.transaction():
        await waits.ended(conn, [{"run_id": child.run_id, "linked": True}])
    found = await begin(conn, parent, "run", child_run_id=child.run_id)
    assert found.resolution is not None
    assert found.resolution["status"] == "succeeded"


async def test_a_child_that_ends_while_it_is_watched(conn: Connection, database_url: str) -> None:
    """Its end waits for the wait to be committed, finds the mark, and tells the parent, which has not even parked."""
    child, parent = await running(conn, "child"), await running(conn)
    async with await db.connect(database_url, "worker") as worker:
        async with conn.transaction():
            assert await waits.watch(conn, child.run_id)
            await begin(conn, parent, "run", child_run_id=child.run_id)
            ending = asyncio.create_task(settled(worker, child))
            await poll_until(lambda: blocked(conn, worker))
        await ending
    await park(conn, parent)
    assert await awake(conn, parent)


async def test_a_parent_that_is_canceled_leaves_its_child_alone(conn: Connection) -> None:
    """The child goes on, and its end finds nobody."""
    parent, child = await family(conn)
    async with conn.transaction():
        assert await leases.cancel(conn, parent.run_id, "no") == "canceled"
    assert [row["run_id"] for row in await rows(conn, "SELECT run_id FROM duework.wait")] == [child.run_id]
    await settled(conn, child)
    assert await rows(conn, "SELECT FROM duework.wait") == []


async def test_parent_and_child_that_end_together(conn: Connection) -> None:
    """In one batch of settlements neither is told, and nothing is left."""
    parent, child = await family(conn)
    await conn.execute(
        "UPDATE duework.due_work SET run_at = now(), slot = %s WHERE id = %s",
        [await one(conn, "SELECT slot FROM duework.due_work_slot WHERE state = 'writing'"), parent.run_id],
    )
    again = await lease_one(conn)
    assert await leases.settle(conn, [run_row(again), run_row(child)], []) == {parent.run_id, child.run_id}
    assert await rows(conn, "SELECT FROM duework.wait") == []


async def test_a_child_that_is_late_is_still_the_child(conn: Connection) -> None:
    """After its timeout a wait for a run keeps the child, wakes nobody any more, and has the answer if asked again."""
    parent, child = await running(conn), await running(conn, "child")
    given: dict[str, Any] = {"child_run_id": child.run_id, "timeout": timedelta(0)}
    async with conn.transaction():
        await waits.watch(conn, child.run_id)
        await begin(conn, parent, "run", **given)
    assert (await begin(conn, parent, "run", **given)).late
    await settled(conn, child)
    await park(conn, parent)
    assert not await awake(conn, parent)
    now = await db.clock(conn) + DAY
    await leases.promote(conn, now=now)
    (again,) = await leases.lease(conn, "w1", 1, DAY, now=now)
    found = await begin(conn, again, "run", **given)
    assert not found.late
    assert found.resolution is not None


async def test_settling_many_costs_one_statement_where_nobody_waits(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that no wait is about are settled as before; one that is costs the others nothing but a second look."""
    task = await make_task(conn, "many")
    for _ in range(20):
        await queue(conn, task)
    taken = await leases.lease(conn, "w1", 20, LONG)
    asked: list[str] = []
    fetch = db.fetch

    async def counting(conn: Connection, name: str, values: Mapping[str, Any] | None = None) -> list[Row]:
        asked.append(name)
        return await fetch(conn, name, values)

    monkeypatch.setattr(db, "fetch", counting)
    assert len(await leases.settle(conn, [run_row(lease) for lease in taken], [])) == 20
    assert asked == ["settle_runs"]
