"""Limits around calls: several processes' limiters at work on one database, and what happens when one of them ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import count
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest

from engine import db
from engine.db import Connection, Pool
from engine.errors import ToolUnavailable
from engine.store import limits
from engine.tools.calls import Call, Parked
from engine.tools.entry import ToolEntry
from engine.tools.limits import slots
from engine.tools.limits.limiter import Limiter, open_limiter
from engine.tools.registry import parse_entry
from tests.factories import one
from tests.polling import poll_until
from tests.processes import settings_for

TTL = timedelta(seconds=60)
HOSTS = 3
ONE = {"value": 1}


def tool(**members: Any) -> ToolEntry:
    """An entry with these limits."""
    plain = {"address": "t", "transport": "builtin", "input_schema": {}, "output_schema": {}}
    return parse_entry(plain | members, "tools.yaml")


def call(timeout: float = 60) -> Call:
    return Call(uuid4(), "step", "key", 1, 1, timedelta(seconds=timeout))


async def answer(_entry: ToolEntry, arguments: Any, _call: Call) -> Any:
    """A tool that works."""
    return arguments


async def persist(
    limiter: Limiter, entry: ToolEntry, begin: Callable[..., Awaitable[Any]], calls: int
) -> None:
    """So many calls, one after the other, each asked for until it is let in."""
    while calls:
        try:
            await limiter.call(entry, {}, call(), begin)
        except Parked:
            continue
        calls -= 1


def failing(error: BaseException) -> Callable[..., Awaitable[Any]]:
    """A tool that does not."""

    async def begin(_entry: ToolEntry, _arguments: Any, _call: Call) -> Any:
        raise error

    return begin


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with db.pool(settings_for(database_url), "test", size=8) as made:
        yield made


@pytest.fixture
async def limiters(pool: Pool) -> AsyncIterator[list[Limiter]]:
    """What several processes would have, each."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_limiter(pool, TTL)) for _ in range(HOSTS)]


async def test_no_more_calls_at_once_than_the_limit(limiters: list[Limiter], pool: Pool) -> None:
    """Many callers on several hosts: never more of them inside than two, all get their turn, all numbers come back."""
    entry, inside, most, done = tool(concurrency=2), set[int](), 0, 0
    numbers = count()

    async def begin(_entry: ToolEntry, _arguments: Any, _call: Call) -> None:
        nonlocal most, done
        own = next(numbers)
        inside.add(own)
        most = max(most, len(inside))
        async with db.connection(pool) as conn:
            await db.clock(conn)
        inside.discard(own)
        done += 1

    await asyncio.gather(*(persist(limiter, entry, begin, 5) for limiter in limiters for _ in range(6)))
    assert (most, done) == (2, HOSTS * 6 * 5)
    await poll_until(lambda: not any(limiter.slots.held for limiter in limiters))


async def test_calls_one_after_the_other_share_a_number(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number is not taken and given back for each of them."""
    asked, take = count(), limits.take_slots

    async def counted(*given: Any, **named: Any) -> Any:
        next(asked)
        return await take(*given, **named)

    monkeypatch.setattr(limits, "take_slots", counted)
    monkeypatch.setattr(slots, "SPARE", 3600.0)
    monkeypatch.setattr(slots, "SHARE", 3600.0)
    async with open_limiter(pool, TTL) as limiter:
        for _ in range(50):
            assert await limiter.call(tool(concurrency=5), ONE, call(), answer) == ONE
    assert next(asked) == 1


async def test_a_call_that_finds_no_number_gives_its_worker_back(limiters: list[Limiter]) -> None:
    """After a moment and no longer; a canceled caller leaves nothing behind."""
    entry, free = tool(concurrency=1), asyncio.Event()

    async def begin(_entry: ToolEntry, _arguments: Any, _call: Call) -> None:
        await free.wait()

    first = asyncio.create_task(limiters[0].call(entry, {}, call(), begin))
    await poll_until(lambda: bool(limiters[0].slots.held))
    waiting = asyncio.create_task(limiters[0].call(entry, {}, call(), begin))
    with pytest.raises(Parked) as parked:
        await limiters[1].call(entry, {}, call(), begin)
    assert parked.value.delay >= timedelta(seconds=1)
    waiting.cancel()
    await asyncio.wait([waiting])
    free.set()
    await first
    await poll_until(lambda: not limiters[0].slots.held)
    assert await limiters[1].call(entry, ONE, call(), answer) == ONE


async def test_a_number_that_cannot_be_prolonged_ends_its_call(pool: Pool, conn: Connection) -> None:
    """As on waking from a stop that was too long: somebody else may hold it by now."""
    async with open_limiter(pool, TTL) as limiter:
        begun, entry = asyncio.Event(), tool(concurrency=1)

        async def begin(_entry: ToolEntry, _arguments: Any, _call: Call) -> None:
            begun.set()
            await asyncio.Event().wait()

        running = asyncio.create_task(limiter.call(entry, {}, call(), begin))
        await begun.wait()
        await conn.execute(
            b"UPDATE duework.tool_slot SET held_by = 'somebody else', held_until = now() + '1 hour'"
        )
        await limiter.slots.renew()
        with pytest.raises(ToolUnavailable, match="could not be prolonged"):
            await running
    (row,) = await (await conn.execute(b"SELECT held_by FROM duework.tool_slot")).fetchall()
    assert row["held_by"] == "somebody else"


async def test_a_call_that_is_canceled_while_it_asks_leaves_no_number_taken(
    pool: Pool, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the statement took when nobody waited any more is given back at once, not when its time has passed."""
    taken, go_on, take = asyncio.Event(), asyncio.Event(), limits.take_slots

    async def slow(*args: Any, **given: Any) -> Any:
        found = await take(*args, **given)
        taken.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(limits, "take_slots", slow)
    async with open_limiter(pool, TTL) as limiter:
        calling = asyncio.create_task(limiter.call(tool(concurrency=1), ONE, call(), answer))
        await taken.wait()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        go_on.set()
    left = "SELECT count(*) FROM duework.tool_slot WHERE held_by IS NOT NULL"
    assert await one(conn, left) == 0


async def test_numbers_are_prolonged_while_they_are_held(pool: Pool, conn: Connection) -> None:
    """A call may take far longer than a number is taken for."""
    async with open_limiter(pool, timedelta(seconds=1.5)) as limiter:
        begun, free, entry = asyncio.Event(), asyncio.Event(), tool(concurrency=1)

        async def begin(_entry: ToolEntry, _arguments: Any, _call: Call) -> str:
            begun.set()
            await free.wait()
            return "done"

        running = asyncio.create_task(limiter.call(entry, {}, call(), begin))
        await begun.wait()
        first = (await held(conn))["held_until"]

        async def prolonged() -> bool:
            return bool((await held(conn))["held_until"] > first)

        await poll_until(prolonged)
        free.set()
        assert await running == "done"


async def held(conn: Connection) -> dict[str, Any]:
    """The one number that is held."""
    (row,) = await (
        await conn.execute(b"SELECT * FROM duework.tool_slot WHERE held_by IS NOT NULL")
    ).fetchall()
    return row


async def test_no_window_has_more_calls_than_limit_and_burst(limiters: list[Limiter]) -> None:
    """Many callers on several hosts; each call notes when it began, by the one clock that they share here."""
    entry, begun = tool(rate={"limit": 50, "per": "1s", "burst": 10}), list[float]()

    async def begin(_entry: ToolEntry, _arguments: Any, _call: Call) -> None:
        begun.append(monotonic())

    await asyncio.gather(*(persist(limiter, entry, begin, 8) for limiter in limiters for _ in range(5)))
    windows = [sum(start <= other < start + 1 for other in begun) for start in begun]
    assert len(begun) == HOSTS * 5 * 8
    assert max(windows) <= 60


async def test_many_calls_take_few_statements(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that is far from empty is not asked for each call."""
    asked, take = count(), limits.take_tokens

    async def counted(*given: Any, **named: Any) -> limits.Tokens:
        next(asked)
        return await take(*given, **named)

    monkeypatch.setattr(limits, "take_tokens", counted)
    entry = tool(rate={"limit": 100_000, "per": "1s"})
    async with open_limiter(pool, TTL) as limiter:
        for _ in range(40):
            await asyncio.gather(*(limiter.call(entry, {}, call(), answer) for _ in range(10)))
    assert next(asked) < 100


async def test_a_spent_rate_parks_the_run(limiters: list[Limiter]) -> None:
    """Who has to wait for long gives its worker back, and is told when to come again."""
    entry = tool(rate={"limit": 1, "per": "1h"})
    assert await limiters[0].call(entry, ONE, call(), answer) == ONE
    for limiter, hours in ((limiters[0], 1), (limiters[1], 2)):
        with pytest.raises(Parked) as parked:
            await limiter.call(entry, ONE, call(), answer)
        assert not parked.value.called
        assert timedelta(0) < parked.value.delay <= min(timedelta(hours=hours), timedelta(minutes=11))


async def test_waiting_to_be_let_in_is_no_part_of_the_timeout(limiters: list[Limiter]) -> None:
    """A call of a busy tool has its whole time once it begins."""
    entry = tool(rate={"limit": 4, "per": "1s", "burst": 1})
    given = [limiters[0].call(entry, ONE, call(timeout=0.1), answer) for _ in range(3)]
    assert await asyncio.gather(*given) == [ONE] * 3
