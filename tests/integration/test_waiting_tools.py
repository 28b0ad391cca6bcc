"""core.sleep, core.wait_event, core.approval, task.run_now with `wait`: what each call answers, whenever it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from engine import db
from engine.db import Connection, Pool, Row
from engine.errors import InputInvalid, LeaseLost, ToolRejected, ToolTimeout
from engine.settings import Settings
from engine.store import approvals, events, leases, waits
from engine.store.approvals import Decision
from engine.store.events import Event
from engine.tools.builtin.duework import DueworkTools
from engine.tools.builtin.waiting import LONG, SECOND_LOOK, WaitingTools
from engine.tools.calls import Arguments, Call, Parked
from tests.factories import lease_one, make_task, one, queue, rows, run_row
from tests.factories import waits as blocked
from tests.polling import poll_until

HOUR = timedelta(hours=1)
PAST = (
    "UPDATE duework.wait SET created_at = created_at - interval '2 h', deadline = deadline - interval '2 h'"
)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A worker's pool."""
    async with db.pool(Settings(database_url=database_url), "worker") as made:
        yield made


@pytest.fixture
async def call(conn: Connection) -> Call:
    """A call of a step of a run that is under way."""
    await queue(conn, await make_task(conn, "parent"))
    lease = await lease_one(conn, seconds=300)
    return Call(lease.run_id, "s", f"{lease.run_id}:s", lease.fence, 1, timedelta(seconds=10))


async def parks(
    tool: Callable[[Arguments, Call], Awaitable[Any]], arguments: Arguments, call: Call
) -> Parked:
    """How long the tool parks for."""
    with pytest.raises(Parked) as parked:
        await tool(arguments, call)
    return parked.value


async def publish(conn: Connection, topic: str, **payload: Any) -> Row:
    async with conn.transaction():
        return await events.publish(conn, Event(topic, payload, "test"))


async def test_a_sleep_is_slept_once(conn: Connection, pool: Pool, call: Call) -> None:
    """A call that comes early parks for what is left; after its time it is over, for every later attempt."""
    nap = WaitingTools(pool).sleep
    first = await parks(nap, {"duration": "1h"}, call)
    assert first.delay == HOUR
    again = await parks(nap, {"duration": "1h"}, replace(call, resumed=True))
    assert timedelta(0) < again.delay < HOUR
    await conn.execute(PAST)
    assert len(await waits.pending(conn, call.run_id)) == 1
    for _ in range(2):
        assert await nap({"duration": "1h"}, replace(call, resumed=True)) == {"slept_seconds": 3600}
    assert await waits.pending(conn, call.run_id) == []


async def test_a_sleep_until_an_instant(conn: Connection, pool: Pool, call: Call) -> None:
    """It is the database's clock that counts; an instant of the past is no sleep."""
    nap = WaitingTools(pool).sleep
    until = await db.clock(conn) + timedelta(days=3)
    parked = await parks(nap, {"until": until.isoformat()}, call)
    assert timedelta(days=2, hours=23) < parked.delay <= timedelta(days=3)
    assert await nap({"until": "2020-01-01T00:00:00Z"}, replace(call, step="past")) == {"slept_seconds": 0.0}
    with pytest.raises(InputInvalid, match="offset"):
        await nap({"until": "2030-01-01T00:00:00"}, replace(call, step="local"))


async def test_a_filter_that_cannot_be_read_is_refused_before_the_wait(
    conn: Connection, pool: Pool, call: Call
) -> None:
    """InputInvalid says where; nothing is stored."""
    with pytest.raises(InputInvalid, match="column"):
        await WaitingTools(pool).wait_event({"topic": "a", "filter": "payload ="}, call)
    with pytest.raises(InputInvalid, match="duration"):
        await WaitingTools(pool).wait_event({"topic": "a", "timeout": "soon"}, call)
    assert await rows(conn, "SELECT FROM duework.wait") == []


async def test_an_event_is_the_answer(conn: Connection, pool: Pool, call: Call) -> None:
    """It parks for as long as it takes, and answers with the event."""
    wait = WaitingTools(pool).wait_event
    arguments = {"topic": "order.*", "filter": "payload.id == given.id", "given": {"id": 7}}
    parked = await parks(wait, arguments, call)
    assert (parked.delay, parked.early) == (LONG, True)
    await publish(conn, "order.paid", id=8)
    await parks(wait, arguments, call)
    await publish(conn, "order.paid", id=7)
    answer = await wait(arguments, call)
    assert (answer["event"]["topic"], answer["event"]["payload"]) == ("order.paid", {"id": 7})


async def test_a_wait_that_takes_too_long_is_a_timeout(conn: Connection, pool: Pool, call: Call) -> None:
    """The class decides what follows; another try waits anew."""
    wait = WaitingTools(pool).wait_event
    arguments = {"topic": "a", "timeout": "1h"}
    assert (await parks(wait, arguments, call)).delay == HOUR
    await conn.execute(PAST)
    await publish(conn, "a")
    with pytest.raises(ToolTimeout, match="'a' came within 1h"):
        await wait(arguments, call)
    assert (await parks(wait, arguments, call)).delay == HOUR


async def test_since_finds_what_came_before(conn: Connection, pool: Pool, call: Call) -> None:
    """The oldest event from that instant on; without it, only what comes after the wait has begun counts."""
    wait = WaitingTools(pool).wait_event
    await publish(conn, "a", n=0)
    since = (await db.clock(conn)).isoformat()
    for n in (1, 2, 3):
        await publish(conn, "a", n=n)
    await parks(wait, {"topic": "a"}, call)
    arguments = {"topic": "*", "filter": "payload.n != `2`", "since": since}
    answer = await wait(arguments, replace(call, step="back"))
    assert answer["event"]["payload"] == {"n": 1}
    assert await wait(arguments, replace(call, step="back")) == answer
    assert (await parks(wait, {"topic": "b", "since": since}, replace(call, step="b"))).delay <= SECOND_LOOK


async def test_since_finds_what_was_being_published(
    conn: Connection, database_url: str, pool: Pool, call: Call
) -> None:
    """A publisher that saw no wait, and whose event the wait could not see: the second look finds it."""
    wait = WaitingTools(pool).wait_event
    arguments = {"topic": "a", "since": (await db.clock(conn)).isoformat(), "timeout": "1h"}
    async with await db.connect(database_url, "publisher") as publisher, publisher.transaction():
        assert (await events.publish(publisher, Event("a", {"n": 1}, "test")))["resumed"] == []
        parked = await parks(wait, arguments, call)
    assert parked.delay <= SECOND_LOOK
    assert (await wait(arguments, replace(call, resumed=True)))["event"]["payload"] == {"n": 1}


async def test_a_stale_worker_waits_for_nothing(pool: Pool, call: Call) -> None:
    """Every tool of these says that the lease is lost, and no child is queued."""
    stale = replace(call, fence=call.fence - 1)
    tools = WaitingTools(pool)
    for tool, arguments in (
        (tools.sleep, {"seconds": 9}),
        (tools.wait_event, {"topic": "a"}),
        (tools.approval, {"prompt": "?"}),
        (DueworkTools(pool).run_now, {"task": "parent", "wait": True}),
    ):
        with pytest.raises(LeaseLost):
            await tool(arguments, stale)
    async with db.connection(pool) as conn:
        assert await one(conn, "SELECT count(*) FROM duework.due_work") == 1


async def test_an_approval_is_the_answer(conn: Connection, pool: Pool, call: Call) -> None:
    """Who, why and when; a refusal is an error that says the same."""
    ask = WaitingTools(pool).approval
    assert (await parks(ask, {"prompt": "Ship it?"}, call)).early
    async with conn.transaction():
        await approvals.decide(conn, call.run_id, Decision("approve", "ada", "looks good"))
    answer = await ask({"prompt": "Ship it?"}, call)
    assert {**answer, "at": None} == {"decision": "approve", "by": "ada", "reason": "looks good", "at": None}
    refused = replace(call, step="t")
    await parks(ask, {"prompt": "Really?"}, refused)
    async with conn.transaction():
        await approvals.decide(conn, call.run_id, Decision("refuse", "bob", "too late"))
    for _ in range(2):
        with pytest.raises(ToolRejected, match="bob refused: too late"):
            await ask({"prompt": "Really?"}, refused)


async def end_child(conn: Connection, run_id: UUID, status: str = "succeeded", **members: Any) -> None:
    """A worker takes the child and ends it."""
    lease = await lease_one(conn)
    assert lease.run_id == run_id
    await leases.settle(conn, [run_row(lease, status, **members)], [])


async def test_a_child_is_waited_for(conn: Connection, pool: Pool, call: Call) -> None:
    """One child however often the step is asked, even when its key is long forgotten; its output is the answer."""
    await make_task(conn, "child")
    run = DueworkTools(pool).run_now
    arguments = {"task": "child", "wait": True}
    await parks(run, arguments, call)
    await conn.execute("DELETE FROM duework.idempotency_key")
    await parks(run, arguments, call)
    child = await one(conn, "SELECT id FROM duework.due_work WHERE parent_run_id = %s", call.run_id)
    await end_child(conn, child, output={"n": 1})
    await conn.execute("DELETE FROM duework.task_run")  # retention has gone by before a worker came
    answer = await run(arguments, call)
    assert answer == {
        "run_id": str(child),
        "task": "child",
        "deduplicated": False,
        "status": "succeeded",
        "output": {"n": 1},
        "error": None,
    }


async def test_a_child_that_fails(conn: Connection, pool: Pool, call: Call) -> None:
    """A ToolRejected that says why, or an answer for who asked for one."""
    await make_task(conn, "child")
    run = DueworkTools(pool).run_now
    await parks(run, {"task": "child", "wait": True}, call)
    child = await one(conn, "SELECT id FROM duework.due_work WHERE parent_run_id = %s", call.run_id)
    await end_child(conn, child, "failed", error={"code": "rejected", "message": "no such customer"})
    with pytest.raises(ToolRejected, match="is failed: no such customer"):
        await run({"task": "child", "wait": True}, call)
    answer = await run({"task": "child", "wait": True, "must_succeed": False}, call)
    assert (answer["status"], answer["error"]["code"]) == ("failed", "rejected")


async def test_a_child_that_takes_too_long(conn: Connection, pool: Pool, call: Call) -> None:
    """A timeout; the child goes on, is never queued twice, and its end still counts for who asks again."""
    await make_task(conn, "child")
    run = DueworkTools(pool).run_now
    arguments = {"task": "child", "wait": True, "timeout": "1h"}
    assert (await parks(run, arguments, call)).delay == HOUR
    await conn.execute(PAST)
    for _ in range(2):
        with pytest.raises(ToolTimeout):
            await run(arguments, call)
    child = await one(conn, "SELECT id FROM duework.due_work WHERE parent_run_id = %s", call.run_id)
    await end_child(conn, child)
    assert (await run(arguments, call))["status"] == "succeeded"


async def test_a_child_by_its_dedupe_key(conn: Connection, pool: Pool, call: Call) -> None:
    """The run that stands for it is waited for, also one that has ended; a run does not wait for itself."""
    task = await make_task(conn, "child", dedupe={"key": "one", "window": "1h"})
    standing = await queue(conn, task)
    run = DueworkTools(pool).run_now
    await parks(run, {"task": "child", "wait": True}, call)
    await end_child(conn, standing)
    answer = await run({"task": "child", "wait": True}, call)
    assert (answer["run_id"], answer["deduplicated"]) == (str(standing), True)
    ended = await run({"task": "child", "wait": True}, replace(call, step="t", idempotency_key="t"))
    assert (ended["run_id"], ended["status"]) == (str(standing), "succeeded")
    itself = await make_task(conn, "itself", dedupe={"key": "one"})
    await queue(conn, itself)
    lease = await lease_one(conn, seconds=300)
    own = replace(call, run_id=lease.run_id, fence=lease.fence, idempotency_key="own")
    with pytest.raises(ToolRejected, match="itself"):
        await run({"task": "itself", "wait": True}, own)


async def test_two_that_decide_at_once(conn: Connection, database_url: str, pool: Pool, call: Call) -> None:
    """The first counts; the other is told, unless both say the same."""
    await parks(WaitingTools(pool).approval, {"prompt": "?"}, call)
    async with await db.connect(database_url, "other") as other:
        async with conn.transaction():
            await approvals.decide(conn, call.run_id, Decision("approve", "ada", "yes"))
            second = asyncio.create_task(same(other, call.run_id))
            await poll_until(lambda: blocked(conn, other))
        _, changed = await second
    assert not changed


async def same(conn: Connection, run_id: UUID) -> tuple[Row, bool]:
    """The same decision by somebody else."""
    async with conn.transaction():
        return await approvals.decide(conn, run_id, Decision("approve", "bob", "me too"))
