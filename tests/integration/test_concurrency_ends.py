"""Concurrency keys from admission to the end: a number is kept throughout, and passed on whatever ends the run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from engine.db import Connection
from engine.store import leases, tasks
from engine.store.leases import Lease
from tests.factories import make_task, queue, rows, run_row
from tests.integration.test_concurrency import holders, ids, lease_all, limited, settle, waiting
from tests.integration.test_ledger import SECOND, T0, tick_all


async def given_back(conn: Connection, lease: Lease) -> object:
    return await leases.release(conn, [run_row(lease, started_at=None)])


async def parked(conn: Connection, lease: Lease) -> object:
    return await leases.release(conn, [run_row(lease, state={"step": "only"})])


async def retried(conn: Connection, lease: Lease) -> object:
    return await leases.retry(conn, [run_row(lease, "failed")], [])


async def lost(conn: Connection, lease: Lease) -> object:
    await conn.execute(
        "UPDATE duework.due_work SET locked_until = now() - interval '1s' WHERE id = %s", [lease.run_id]
    )
    return await leases.reap(conn)


Act = Callable[[Connection, Lease], Awaitable[object]]


@pytest.mark.parametrize("act", [given_back, parked, retried, lost], ids=lambda one: one.__name__)
@pytest.mark.parametrize("on_conflict", ["queue", "skip"])
async def test_a_run_keeps_its_number_until_it_ends(conn: Connection, act: Act, on_conflict: str) -> None:
    """Between attempts, parked, given back or rescued: it goes on before all others, and asks nobody."""
    task = await make_task(
        conn, retry={"max_attempts": 3}, concurrency={"limit": 1, "on_conflict": on_conflict}
    )
    first = await queue(conn, task)
    (held,) = await lease_all(conn)
    assert await act(conn, held)
    assert await holders(conn) == {("task:job", 0): first}
    other = await queue(conn, task, priority=1)
    again = await lease_all(conn)
    assert ids(again) == [first]
    await settle(conn, *again)
    left = list((await holders(conn)).values())
    assert left == ([] if on_conflict == "skip" else [other])


async def dead(conn: Connection, lease: Lease) -> object:
    await conn.execute("UPDATE duework.due_work SET attempt = 99 WHERE id = %s", [lease.run_id])
    return await lost(conn, lease)


async def canceled_at_retry(conn: Connection, lease: Lease) -> object:
    await leases.cancel(conn, lease.run_id, "by test")
    return await retried(conn, lease)


async def canceled_at_release(conn: Connection, lease: Lease) -> object:
    await leases.cancel(conn, lease.run_id, "by test")
    return await parked(conn, lease)


async def canceled_in_the_queue(conn: Connection, lease: Lease) -> object:
    await given_back(conn, lease)
    return await leases.cancel(conn, lease.run_id, "by test")


async def missed(conn: Connection, lease: Lease) -> object:
    await given_back(conn, lease)
    await conn.execute(
        "UPDATE duework.due_work SET expires_at = now() - interval '1s' WHERE id = %s", [lease.run_id]
    )
    return await leases.expire(conn)


@pytest.mark.parametrize(
    "end",
    [dead, canceled_at_retry, canceled_at_release, canceled_in_the_queue, missed],
    ids=lambda one: one.__name__,
)
async def test_every_end_passes_the_number_on(conn: Connection, end: Act) -> None:
    """However a run ends, whoever waits for its key is next, and then nothing is left."""
    task = await limited(conn)
    await queue(conn, task)
    (held,) = await lease_all(conn)
    second = await queue(conn, task)
    assert await lease_all(conn) == []
    assert await end(conn, held)
    then = await lease_all(conn)
    assert ids(then) == [second]
    await settle(conn, *then)
    assert await holders(conn) == {}


async def test_withdrawing_a_task_passes_its_numbers_on(conn: Connection) -> None:
    """A pause takes back an instant that was admitted and given back, and with it its number."""
    timed = await make_task(
        conn, "timed", schedule={"every": "10s"}, concurrency={"key": "k", "limit": 1}, now=T0
    )
    other = await limited(conn, "other", key="k")
    await tick_all(conn, T0)
    (held,) = await lease_all(conn, now=T0 + 10 * SECOND)
    waits_for_it = await queue(conn, other)
    await lease_all(conn)
    await given_back(conn, held)
    async with conn.transaction():
        await tasks.pause(conn, timed["id"], T0 + SECOND)
    (lease,) = await lease_all(conn)
    assert lease.run_id == waits_for_it


async def test_rows_that_wait_too_long_are_missed(conn: Connection) -> None:
    """A waiting instant whose catch-up window ends is missed, with the key as the reason, and is never woken."""
    catchup = {"policy": "none"}
    task = await make_task(
        conn,
        schedule={"every": "10s", "catchup": catchup},
        concurrency={"limit": 1},
        now=T0,
    )
    await tick_all(conn, T0)
    (held,) = await lease_all(conn, now=T0 + 10 * SECOND)
    assert await lease_all(conn, now=T0 + 20 * SECOND) == []
    assert len(await waiting(conn)) == 1
    late = T0 + 51 * SECOND
    await conn.execute("DELETE FROM duework.due_work WHERE slot >= 0 AND locked_until IS NULL")
    expired = await leases.expire(conn, now=late)
    assert [row["scheduled_for"] for row in expired] == [T0 + 20 * SECOND]
    await settle(conn, held)
    assert await holders(conn) == {}
    (row,) = await rows(
        conn,
        "SELECT disposition, reason FROM duework.occurrences WHERE task_id = %s AND scheduled_for = %s",
        task["id"],
        T0 + 20 * SECOND,
    )
    assert tuple(row.values()) == ("missed", "its concurrency key was taken until its catch-up window ended")


async def test_a_waiting_run_can_be_canceled(conn: Connection) -> None:
    """It ends at once, and nobody's number is touched."""
    task = await limited(conn)
    first, second, third = [await queue(conn, task) for _ in range(3)]
    (held,) = await lease_all(conn)
    assert await leases.cancel(conn, second, "not needed") == "canceled"
    assert await holders(conn) == {("task:job", 0): first}
    await settle(conn, held)
    assert ids(await lease_all(conn)) == [third]


async def test_each_task_asks_for_numbers_below_its_own_limit(conn: Connection) -> None:
    """Under one key with limits of one and three, three run at most; a number goes to the first that may have it."""
    narrow = await limited(conn, "narrow", key="k", limit=1)
    wide = await limited(conn, "wide", key="k", limit=3)
    small = await queue(conn, narrow)
    (lowest,) = await lease_all(conn)
    big = [await queue(conn, wide) for _ in range(2)]
    others = await lease_all(conn)
    assert ids(others) == big
    behind = [await queue(conn, narrow) for _ in range(2)]
    last = [await queue(conn, wide) for _ in range(2)]
    assert await lease_all(conn) == []
    await settle(conn, *others)
    assert ids(await lease_all(conn)) == last, (
        "the narrow ones stand before them and may not have these numbers"
    )
    await settle(conn, lowest)
    assert lowest.run_id == small
    assert ids(await lease_all(conn)) == behind[:1]


async def test_numbers_freed_together_reach_all_who_may_have_them(conn: Connection) -> None:
    """When several end in one commit, rows with a small limit in front do not hide those behind them."""
    narrow = await limited(conn, "narrow", key="k", limit=1)
    wide = await limited(conn, "wide", key="k", limit=3)
    for _ in range(3):
        await queue(conn, wide)
    held = await lease_all(conn)
    small = [await queue(conn, narrow) for _ in range(4)]
    big = [await queue(conn, wide) for _ in range(2)]
    assert await lease_all(conn) == []
    await settle(conn, *held)
    assert ids(await lease_all(conn)) == [small[0], *big]
