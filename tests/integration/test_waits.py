"""Waits: an answer wakes its run, whatever happens at that moment; every end of a run tells who waits for it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from engine import db
from engine.db import Connection, Row
from engine.errors import LeaseLost
from engine.store import events, leases, waits
from engine.store.events import Event
from engine.store.leases import Lease
from engine.store.waits import Place, Wait, Wanted
from tests.factories import lease_one, make_task, one, queue, rows, run_row
from tests.factories import waits as blocked
from tests.polling import poll_until

DAY, LONG = timedelta(days=1), timedelta(minutes=5)
RUNS, STEPS = 12, ("a", "b", "c")
LIVE = "SELECT slot, run_at <= now() AS due FROM duework.due_work WHERE id = %s"


async def running(conn: Connection, name: str = "parent", **members: Any) -> Lease:
    """A run that is under way."""
    await queue(conn, await make_task(conn, name, **members))
    return await lease_one(conn, seconds=300)


async def begin(
    conn: Connection, lease: Lease, kind: str = "event", step: str = "only", **members: Any
) -> Wait:
    """A step of that run begins to wait, or looks again; it commits at once."""
    given: dict[str, Any] = {"event": {"topic": "a"}, "approval": {"prompt": "?"}}.get(kind, {})
    return await waits.enter(conn, Place(lease.run_id, step), lease.fence, Wanted(kind, **given | members))


async def park(conn: Connection, lease: Lease, delay: timedelta = DAY) -> None:
    """The run gives its worker back."""
    row = run_row(lease, delay=delay.total_seconds(), state={"step": "only"})
    assert await leases.release(conn, [row]) == {lease.run_id}


async def parked(conn: Connection, kind: str = "event", **members: Any) -> Lease:
    """A run that has parked for a day, where no lease looks."""
    lease = await running(conn)
    await begin(conn, lease, kind, **members)
    await park(conn, lease)
    assert await rows(conn, LIVE, lease.run_id) == [{"slot": -1, "due": False}]
    return lease


async def publish(conn: Connection, topic: str = "a", **payload: Any) -> Row:
    """An event, committed unless the caller has a transaction open."""
    return await events.publish(conn, Event(topic, payload, "test"))


async def awake(conn: Connection, lease: Lease) -> bool:
    """Whether the run may be leased now."""
    (row,) = await rows(conn, LIVE, lease.run_id)
    return bool(row["due"] and row["slot"] >= 0)


async def test_only_the_holder_of_the_lease_may_wait(conn: Connection) -> None:
    """A worker that lost its lease writes no wait."""
    lease = await running(conn)
    await park(conn, lease, timedelta(0))
    with pytest.raises(LeaseLost):
        await begin(conn, lease)
    assert await rows(conn, "SELECT FROM duework.wait") == []


async def test_an_event_wakes_a_run_from_the_far_future(conn: Connection) -> None:
    """It is leased at once, takes the event, and gets the same one however often it asks."""
    lease = await parked(conn)
    answer = await publish(conn, n=1)
    assert answer["resumed"] == [lease.run_id]
    again = await lease_one(conn)
    for _ in range(2):
        found = await begin(conn, again)
        assert found.resolution is not None
        assert found.resolution["payload"] == {"n": 1}
    await park(conn, again)
    assert not await awake(conn, again), "an answer that was taken wakes nobody again"


async def test_the_first_of_two_events_counts(conn: Connection) -> None:
    """The second changes nothing and resumes nobody."""
    lease = await parked(conn)
    assert (await publish(conn, n=1))["resumed"] == [lease.run_id]
    assert (await publish(conn, n=2))["resumed"] == []
    assert (await one(conn, "SELECT resolution FROM duework.wait"))["payload"] == {"n": 1}


async def test_topic_and_filter_decide(conn: Connection) -> None:
    """Patterns, a filter over the event and what was given with it; one that fails is logged and fits nothing."""
    listening: list[dict[str, Any]] = [
        {"topic": "a"},
        {"topic": "a.*"},
        {"topic": "*", "filter": "payload.n == given.n", "given": {"n": 3}},
        {"topic": "b"},
        {"topic": "a.b", "filter": "payload.n > 3"},
        {"topic": "*", "filter": "length(payload.n) > 0"},
    ]
    lease = await running(conn)
    for number, members in enumerate(listening):
        await begin(conn, lease, step=f"s{number}", **members)
    with capture_logs() as logs:
        await publish(conn, "a.b", n=3)
    found = await rows(conn, "SELECT step FROM duework.wait WHERE resolved_at IS NOT NULL ORDER BY step")
    assert [row["step"] for row in found] == ["s1", "s2"]
    assert [line["topic"] for line in logs if line["event"] == "filter.unanswered"] == ["a.b"]


async def test_an_answer_between_the_call_and_the_park(conn: Connection) -> None:
    """The run parks for no time at all."""
    lease = await running(conn)
    await begin(conn, lease)
    await publish(conn)
    assert await one(conn, "SELECT locked_by FROM duework.due_work") == "w1", "a lease is left alone"
    await park(conn, lease)
    assert await awake(conn, lease)


async def test_a_run_that_parks_waits_for_an_answer_under_way(conn: Connection, database_url: str) -> None:
    """The park waits for the publisher's commit, sees its answer, and the run is due at once."""
    lease = await running(conn)
    await begin(conn, lease)
    async with await db.connect(database_url, "worker") as worker:
        async with conn.transaction():
            await publish(conn)
            parking = asyncio.create_task(park(worker, lease))
            await poll_until(lambda: blocked(conn, worker))
        await parking
    assert await awake(conn, lease)


@pytest.mark.parametrize("delay", [timedelta(seconds=30), DAY])
async def test_an_answer_waits_for_a_park_under_way(
    conn: Connection, database_url: str, delay: timedelta
) -> None:
    """The publisher waits for the commit, finds the run parked (moved, if for long), and wakes it."""
    lease = await running(conn)
    await begin(conn, lease)
    async with await db.connect(database_url, "publisher") as publisher:
        async with conn.transaction():
            await park(conn, lease, delay)
            publishing = asyncio.create_task(publish(publisher))
            await poll_until(lambda: blocked(conn, publisher))
        assert (await publishing)["resumed"] == [lease.run_id]
    assert await awake(conn, lease)


async def test_a_call_that_meets_an_answer_under_way(conn: Connection, database_url: str) -> None:
    """It may still find the wait open; the park that follows makes good for it."""
    lease = await running(conn)
    await begin(conn, lease)
    async with await db.connect(database_url, "worker") as worker:
        async with conn.transaction():
            await publish(conn)
            asking = asyncio.create_task(begin(worker, lease))
            await poll_until(lambda: blocked(conn, worker))
        found = await asking
    if found.resolution is None:
        await park(conn, lease)
        assert await awake(conn, lease)


async def test_a_publisher_that_gives_up_answers_nothing(conn: Connection, database_url: str) -> None:
    """What is rolled back has woken nobody."""
    lease = await parked(conn)
    async with await db.connect(database_url, "other") as other, other.transaction(force_rollback=True):
        assert (await publish(other))["resumed"] == [lease.run_id]
    assert not await awake(conn, lease)
    assert (await publish(conn))["resumed"] == [lease.run_id]


async def test_a_deadline_ends_a_wait(conn: Connection) -> None:
    """It stands however often the step asks; after it no answer counts, and another try waits anew."""
    lease = await parked(conn, timeout=timedelta(hours=1))
    now = await db.clock(conn)
    place, wanted = Place(lease.run_id, "only"), Wanted("event", topic="a", timeout=timedelta(hours=1))
    over = now + timedelta(hours=1)
    assert await waits.listening(conn, "a", now=over) == []
    assert await waits.resolve(conn, [place], {"n": 1}, "event:x", now=over) == []
    await leases.promote(conn, now=now + DAY)
    (again,) = await leases.lease(conn, "w1", 1, 2 * DAY, now=now + DAY)
    early = await waits.enter(conn, place, again.fence, wanted, now=now + timedelta(minutes=20))
    assert early.left is not None
    assert not early.late
    assert timedelta(minutes=39) < early.left < timedelta(minutes=40)
    assert (await waits.enter(conn, place, again.fence, wanted, now=over)).late
    anew = await waits.enter(conn, place, again.fence, wanted, now=over)
    assert (anew.late, anew.left) == (False, timedelta(hours=1))


async def test_an_answer_does_not_shorten_the_delay_of_a_retry(conn: Connection) -> None:
    """A run between two attempts is not parked: it keeps its delay and finds the answer then."""
    lease = await running(conn)
    await begin(conn, lease)
    await leases.retry(conn, [run_row(lease, "failed", delay=3600)], [])
    assert (await publish(conn))["resumed"] == [lease.run_id]
    assert not await awake(conn, lease)
    now = await db.clock(conn) + timedelta(hours=1)
    await leases.promote(conn, now=now)
    (again,) = await leases.lease(conn, "w1", 1, DAY, now=now)
    assert (await begin(conn, again)).resolution is not None


async def test_items_wait_by_themselves(conn: Connection) -> None:
    """Each item of a foreach has a wait of its own, and one answer wakes the run for all that has come."""
    lease = await running(conn)
    for item in range(3):
        wanted = Wanted("event", topic="a", filter="payload.item == given.item", given={"item": item})
        await waits.enter(conn, Place(lease.run_id, "each", item), lease.fence, wanted)
    await park(conn, lease)
    await publish(conn, item=1)
    found = await rows(conn, "SELECT item FROM duework.waits WHERE resolved_at IS NOT NULL")
    assert found == [{"item": 1}]
    assert await awake(conn, lease)
    assert [row["item"] for row in await waits.pending(conn, lease.run_id)] == [0, 2]


async def work(url: str, done: set[UUID]) -> None:
    """A worker that takes whatever is due: each run waits for its steps one after the other, then ends."""
    async with await db.connect(url, "worker") as conn:
        while len(done) < RUNS:
            for lease in await leases.lease(conn, "w", 2, LONG):
                for step in STEPS:
                    if (await begin(conn, lease, step=step, topic=step)).resolution is None:
                        await park(conn, lease)
                        break
                else:
                    await leases.settle(conn, [run_row(lease)], [])
                    done.add(lease.run_id)


async def talk(url: str, done: set[UUID]) -> None:
    """Somebody who publishes all the time, whoever listens."""
    async with await db.connect(url, "publisher") as conn:
        while len(done) < RUNS:
            for step in STEPS:
                async with conn.transaction():
                    await publish(conn, step)


async def test_no_wake_up_is_lost(conn: Connection, database_url: str) -> None:
    """Workers that park for a day and publishers that never stop: every run ends, for each answer wakes its own."""
    task = await make_task(conn)
    for _ in range(RUNS):
        await queue(conn, task)
    done: set[UUID] = set()
    others = [work(database_url, done) for _ in range(3)] + [talk(database_url, done) for _ in range(2)]
    async with asyncio.timeout(300):
        await asyncio.gather(*others)
    assert await rows(conn, "SELECT FROM duework.wait") == []


async def test_waits_that_a_crash_left_are_swept(conn: Connection) -> None:
    """Only those of runs that are gone, and only old ones."""
    lease = await parked(conn)
    made = "INSERT INTO duework.wait (run_id, step, kind, topic, created_at) VALUES (%s, 'x', 'event', 'a', now() - %s)"
    for age in (timedelta(0), DAY):
        await conn.execute(made.encode(), [uuid4(), age])
    older = "UPDATE duework.wait SET created_at = now() - interval '1 day' WHERE run_id = %s"
    await conn.execute(older.encode(), [lease.run_id])
    assert await db.execute(conn, "sweep_waits") == 1
    assert await one(conn, "SELECT count(*) FROM duework.wait") == 2
