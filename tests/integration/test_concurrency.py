"""Concurrency keys at the queue: never more than the limit, nobody forgotten, nothing left behind."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from engine.db import Connection, Row
from engine.errors import ValidationFailed
from engine.store import concurrency, events, leases, runs
from engine.store.events import Event
from engine.store.leases import Lease
from tests.factories import make_task, one, queue, rows, run_row
from tests.integration.test_ledger import SECOND, T0, tick_all

LONG, NOW = timedelta(minutes=5), timedelta(0)


async def lease_all(conn: Connection, worker: str = "w1", limit: int = 100, **given: Any) -> list[Lease]:
    """What a worker with room for `limit` is given; it asks until nothing more comes."""
    taken = await leases.lease(conn, worker, limit, LONG, **given)
    return taken + (await leases.lease(conn, worker, limit, LONG, **given) if taken else [])


def ids(taken: list[Lease]) -> list[UUID]:
    return [lease.run_id for lease in taken]


async def settle(conn: Connection, *held: Lease, status: str = "succeeded") -> None:
    """End runs as a worker does."""
    async with conn.transaction():
        assert await leases.settle(conn, [run_row(lease, status) for lease in held], []) == set(ids([*held]))


async def limited(conn: Connection, name: str = "job", **members: Any) -> Row:
    """A task whose runs exclude each other, unless `members` say otherwise."""
    return await make_task(conn, name, concurrency={"limit": 1} | members)


async def holders(conn: Connection) -> dict[tuple[str, int], UUID]:
    """Who holds which number; each row of the queue says the same of itself."""
    found = await rows(conn, "SELECT key, slot, run_id FROM duework.concurrency_slot")
    own = await rows(
        conn,
        "SELECT concurrency_key AS key, key_slot AS slot, id AS run_id FROM duework.due_work "
        "WHERE key_slot IS NOT NULL",
    )
    assert sorted(found, key=str) == sorted(own, key=str)
    return {(row["key"], row["slot"]): row["run_id"] for row in found}


async def waiting(conn: Connection) -> list[UUID]:
    """Who waits for a key, as `duework.runs` shows it."""
    found = await rows(conn, "SELECT run_id FROM duework.queue WHERE waiting ORDER BY run_id")
    shown = await rows(conn, "SELECT run_id FROM duework.runs WHERE status = 'waiting' ORDER BY run_id")
    assert found == shown
    return [row["run_id"] for row in found]


async def test_no_more_than_the_limit_are_under_way(conn: Connection) -> None:
    """Two of five run; each that ends hands its number to the next in line, in the same commit."""
    task = await limited(conn, limit=2)
    expected = [await queue(conn, task) for _ in range(5)]
    first = await lease_all(conn)
    assert ids(first) == expected[:2]
    assert await holders(conn) == {("task:job", 0): expected[0], ("task:job", 1): expected[1]}
    assert await waiting(conn) == expected[2:]
    assert await leases.next_due(conn) is None, "a worker sleeps; it does not ask again and again"
    await settle(conn, first[1])
    assert (await holders(conn))["task:job", 1] == expected[2], "the number is never free in between"
    second = await lease_all(conn)
    assert ids(second) == expected[2:3]
    await settle(conn, first[0], *second)
    third = await lease_all(conn)
    assert ids(third) == expected[3:]
    await settle(conn, *third)
    assert await holders(conn) == {}
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0


async def test_rows_without_a_key_pay_nothing(conn: Connection) -> None:
    """They pass a full key, take no number and need no second statement."""
    blocked, free = await limited(conn), await make_task(conn, "free")
    mixed = [await queue(conn, task) for task in (blocked, blocked, free, blocked, free)]
    assert ids(await lease_all(conn)) == [mixed[0], mixed[2], mixed[4]]
    assert await waiting(conn) == [mixed[1], mixed[3]]
    assert await one(conn, "SELECT count(*) FROM duework.concurrency_slot") == 1


async def test_the_urgent_go_first_among_those_that_wait(conn: Connection) -> None:
    """A number goes to the waiting row with priority 1 first, then to the oldest."""
    task = await limited(conn)
    held = await queue(conn, task)
    (lease,) = await lease_all(conn)
    order = [await queue(conn, task, priority=priority) for priority in (5, 9, 1, 5)]
    assert await lease_all(conn) == []
    for expected in (order[2], order[0], order[3], order[1]):
        await settle(conn, lease)
        (lease,) = await lease_all(conn)
        assert lease.run_id == expected != held


async def test_tasks_that_name_a_key_share_it(conn: Connection) -> None:
    """The same text is the same limit whichever task says it; a task's own name is nobody else's key."""
    first = await limited(conn, "first", key="printer")
    second = await limited(conn, "second", key="${params.device}")
    own = await limited(conn, "printer")
    asked = [await queue(conn, task, params={"device": "printer"}) for task in (first, second, own)]
    assert ids(await lease_all(conn)) == [asked[0], asked[2]]
    assert set(await holders(conn)) == {("key:printer", 0), ("task:printer", 0)}
    assert await waiting(conn) == [asked[1]]


async def test_a_key_of_parameters_is_made_when_the_run_is_asked_for(conn: Connection) -> None:
    """Runs for different cities go side by side, two for the same city do not; a key of nothing is refused."""
    task = await limited(conn, key="city:${params.city}", on_conflict="skip")
    asked = [await queue(conn, task, params={"city": city}) for city in ("Rome", "Oslo", "Rome")]
    assert ids(await lease_all(conn)) == asked[:2]
    bare = await limited(conn, "bare", key="${params.city}")
    for params in ({}, {"city": "x" * 501}):
        with pytest.raises(ValidationFailed, match="the concurrency key"):
            await queue(conn, bare, params=params)
    assert await one(conn, "SELECT count(*) FROM duework.due_work WHERE task_id = %s", bare["id"]) == 0


async def test_a_schedule_has_its_key_from_its_definition(conn: Connection) -> None:
    """What a tick queues is limited under the definition's own parameters, defaults of the schema included."""
    schema = {"type": "object", "properties": {"city": {"type": "string", "default": "Bonn"}}}
    await make_task(
        conn,
        schedule={"every": "10s"},
        params_schema=schema,
        concurrency={"key": "${params.city}/${trigger.kind}", "limit": 3, "on_conflict": "skip"},
        now=T0,
    )
    await tick_all(conn, T0)
    found = await rows(
        conn, "SELECT DISTINCT concurrency_key, concurrency_limit, on_conflict FROM duework.due_work"
    )
    assert [tuple(row.values()) for row in found] == [("key:Bonn/schedule", 3, "skip")]


async def test_an_event_without_the_key_is_limited_by_its_task(conn: Connection) -> None:
    """An event of which the key cannot be made runs under the task's own limit; nothing escapes its limit."""
    await make_task(
        conn, schedule={"event": "order.*"}, concurrency={"key": "${event.payload.customer}", "limit": 1}
    )
    async with conn.transaction():
        for payload in ({"customer": "c1"}, {}, {"customer": "c1"}, {}):
            await events.publish(conn, Event("order.new", payload, "test"))
    assert len(await lease_all(conn)) == 2
    assert set(await holders(conn)) == {("key:c1", 0), ("task:job", 0)}


async def test_allow_is_no_limit(conn: Connection) -> None:
    """`on_conflict: allow` takes no number and asks nobody."""
    task = await limited(conn, key="${params.x}", on_conflict="allow")
    asked = [await queue(conn, task, params={}) for _ in range(3)]
    assert ids(await lease_all(conn)) == asked
    assert await holders(conn) == {}


async def test_skip_is_told_in_the_ledger(conn: Connection) -> None:
    """An instant that finds its key taken is skipped, with the key and the run that held it as the reason."""
    task = await make_task(
        conn, schedule={"every": "10s"}, concurrency={"limit": 1, "on_conflict": "skip"}, now=T0
    )
    await tick_all(conn, T0)
    (lease,) = await lease_all(conn, now=T0 + 10 * SECOND)
    assert await lease_all(conn, now=T0 + 20 * SECOND) == []
    await settle(conn, lease)
    (later,) = await lease_all(conn, now=T0 + 30 * SECOND)
    await settle(conn, later)
    found = await rows(
        conn,
        "SELECT disposition, status, reason FROM duework.occurrences WHERE task_id = %s ORDER BY scheduled_for",
        task["id"],
    )
    reason = f"concurrency key 'job' is held by run {lease.run_id}"
    assert [tuple(row.values()) for row in found[:3]] == [
        ("ran", "succeeded", None),
        ("skipped", None, reason),
        ("ran", "succeeded", None),
    ]
    statuses = await rows(
        conn, "SELECT status FROM duework.runs WHERE status <> 'scheduled' ORDER BY scheduled_for"
    )
    assert [row["status"] for row in statuses] == ["succeeded", "skipped", "succeeded"]


async def test_skip_of_a_run_that_was_asked_for_is_in_history(conn: Connection) -> None:
    """Who asked for a run that is skipped finds it by its id, with the reason, and no attempt counted."""
    task = await limited(conn, on_conflict="skip", key="one at a time")
    first, second = await queue(conn, task), await queue(conn, task)
    assert ids(await lease_all(conn)) == [first]
    run = await runs.get(conn, second)
    assert (run["status"], run["success"], run["attempt"]) == ("skipped", False, 0)
    assert run["error"] == {
        "code": "skipped",
        "message": f"concurrency key 'one at a time' is held by run {first}",
    }
    stats = await runs.stats(conn, since=T0)
    assert stats["total"] == 0, "a skipped run is neither a success nor a failure"


async def test_cancel_running_replaces_the_holder(conn: Connection) -> None:
    """The holder is told to end; the newcomer waits for its number; a newer newcomer takes that one's place."""
    task = await limited(conn, on_conflict="cancel_running")
    first = await queue(conn, task)
    (held,) = await lease_all(conn)
    second = await queue(conn, task)
    assert await lease_all(conn) == []
    told = await leases.renew(conn, [(first, held.fence)], LONG)
    assert told[first].cancel_reason == f"replaced by run {second}"
    third = await queue(conn, task)
    assert await lease_all(conn) == []
    assert await waiting(conn) == [third]
    superseded = await runs.get(conn, second)
    assert superseded["status"] == "skipped"
    assert superseded["error"]["message"] == f"replaced by run {third} before it began"
    await settle(conn, held, status="canceled")
    assert ids(await lease_all(conn)) == [third]


async def test_cancel_running_ends_as_many_as_come(conn: Connection) -> None:
    """With a limit of three, two newcomers end the two that have run longest, and no third."""
    task = await limited(conn, limit=3, on_conflict="cancel_running")
    held = []
    for _ in range(3):
        await queue(conn, task)
        held += await lease_all(conn)
    newcomers = [await queue(conn, task) for _ in range(2)]
    assert await lease_all(conn) == []
    assert await lease_all(conn) == []
    told = await leases.renew(conn, [(lease.run_id, lease.fence) for lease in held], LONG)
    assert [told[lease.run_id].cancel_reason is not None for lease in held] == [True, True, False]
    assert await waiting(conn) == newcomers


async def test_cancel_running_ends_a_holder_that_nobody_has(conn: Connection) -> None:
    """A holder between two attempts ends at once, and the newcomer needs no second round."""
    task = await limited(conn, on_conflict="cancel_running")
    first = await queue(conn, task)
    (held,) = await lease_all(conn)
    await leases.retry(conn, [run_row(held, "failed", delay=60)], [])
    second = await queue(conn, task)
    assert await lease_all(conn) == []
    assert (await runs.get(conn, first))["status"] == "canceled"
    assert ids(await lease_all(conn)) == [second]


def test_a_stored_key_is_shown_as_it_was_written() -> None:
    """Reasons name the key as its author knows it."""
    assert [concurrency.shown(key) for key in ("key:a:b", "task:job")] == ["a:b", "job"]
