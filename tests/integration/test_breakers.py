"""Circuit breakers around calls: several processes' limiters at work on one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import count
from typing import Any
from unittest.mock import AsyncMock

import pytest
from structlog.testing import capture_logs

from engine import db
from engine.db import Connection, Pool
from engine.errors import InputInvalid, ToolRejected, ToolUnavailable
from engine.store import limits
from engine.tools.calls import Call, Parked
from engine.tools.entry import ToolEntry
from engine.tools.limits.limiter import Limiter, open_limiter
from tests.integration.test_limiter import ONE, TTL, answer, call, failing, tool
from tests.polling import poll_until
from tests.processes import settings_for

HOSTS = 3
BREAKER = {"failures": 3, "open_for": "1h", "successes": 1}


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with db.pool(settings_for(database_url), "test", size=8) as made:
        yield made


@pytest.fixture
async def limiters(pool: Pool) -> AsyncIterator[list[Limiter]]:
    """What several processes would have, each."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_limiter(pool, TTL)) for _ in range(HOSTS)]


async def fail(limiter: Limiter, entry: ToolEntry, error: BaseException | None = None) -> None:
    error = error or ToolUnavailable("down")
    with pytest.raises(type(error)):
        await limiter.call(entry, {}, call(), failing(error))


async def test_a_breaker_opens_for_all_hosts(limiters: list[Limiter], conn: Connection) -> None:
    """Failures of several hosts count together; then nobody calls, and everybody says until when."""
    entry = tool(breaker=BREAKER)
    with capture_logs() as logs:
        await fail(limiters[0], entry)
        await fail(limiters[0], entry, TimeoutError())
        await limiters[0].breakers.exchange()
        await fail(limiters[1], entry)
        await limiters[1].breakers.exchange()
    assert [line["event"] for line in logs if "breaker" in line["event"]] == ["breaker.opened"]
    await limiters[0].breakers.exchange()
    for limiter in limiters:
        with pytest.raises(ToolUnavailable, match="failed 3 times in a row and is left alone") as refused:
            await limiter.call(entry, {}, call(), failing(AssertionError("called")))
        assert refused.value.retry_after is not None
        assert timedelta(minutes=50) < refused.value.retry_after <= timedelta(hours=1)
    (row,) = await limits.breakers(conn)
    assert (row["state"], row["failures"]) == ("open", 3)


async def test_calls_that_begin_together_read_once(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that starts, or wakes up, with many calls asks for the breakers once, not once for each."""
    read = AsyncMock(wraps=limits.breakers)
    monkeypatch.setattr(limits, "breakers", read)
    limiter, entry = Limiter(pool, TTL), tool(breaker={"failures": 2})
    await asyncio.gather(*(limiter.call(entry, ONE, call(), answer) for _ in range(100)))
    assert read.await_count == 1


async def test_of_a_process_one_call_asks_to_probe(
    pool: Pool, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others that came with it are told what it was told, without a statement of their own."""
    limiter, entry = Limiter(pool, TTL), tool(breaker={"failures": 1, "open_for": "10m"})
    with pytest.raises(ToolUnavailable):
        await limiter.call(entry, ONE, call(), failing(ToolUnavailable("no")))
    await limiter.settle()
    await conn.execute("UPDATE duework.tool_breaker SET open_until = now()")
    await limiter.settle()
    claim = AsyncMock(wraps=limits.claim_probe)
    monkeypatch.setattr(limits, "claim_probe", claim)
    ended = asyncio.Event()

    async def begin(_entry: ToolEntry, _arguments: Any, _call: Call) -> str:
        await ended.wait()
        return "probed"

    calls = [asyncio.create_task(limiter.call(entry, ONE, call(), begin)) for _ in range(100)]
    await poll_until(lambda: sum(each.done() for each in calls) == 99)
    ended.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert (claim.await_count, answers.count("probed")) == (1, 1)
    assert all(isinstance(each, ToolUnavailable) for each in answers if each != "probed")


async def test_a_process_stops_at_its_own_failures(pool: Pool) -> None:
    """Without waiting for the exchange."""
    entry = tool(breaker=BREAKER)
    async with open_limiter(pool, TTL) as limiter:
        for _ in range(3):
            await fail(limiter, entry)
        with pytest.raises(ToolUnavailable, match="left alone"):
            await limiter.call(entry, {}, call(), answer)


@pytest.mark.parametrize(
    "error", [InputInvalid("x"), ToolRejected("no"), Parked(timedelta(1)), asyncio.CancelledError()]
)
async def test_what_says_nothing_about_the_tool_does_not_count(pool: Pool, error: BaseException) -> None:
    """An input that is wrong, a refusal, a wait, a cancellation."""
    entry = tool(breaker=BREAKER)
    async with open_limiter(pool, TTL) as limiter:
        for _ in range(5):
            await fail(limiter, entry, error)
        assert await limiter.call(entry, ONE, call(), answer) == ONE


async def test_a_success_in_between_begins_anew(limiters: list[Limiter], conn: Connection) -> None:
    """Within a process, and over an exchange."""
    entry = tool(breaker=BREAKER)
    for limiter in limiters[:2]:
        for _ in range(2):
            await fail(limiter, entry)
        await limiter.breakers.exchange()
        await limiter.call(entry, ONE, call(), answer)
        await limiter.breakers.exchange()
    assert [(row["state"], row["failures"]) for row in await limits.breakers(conn)] == [("closed", 0)]


async def test_a_healthy_tool_writes_nothing(pool: Pool, conn: Connection) -> None:
    """However often it is called."""
    entry = tool(breaker=BREAKER)
    async with open_limiter(pool, TTL) as limiter:
        for _ in range(50):
            await limiter.call(entry, ONE, call(), answer)
        await limiter.settle()
    assert await limits.breakers(conn) == []


async def test_one_probe_at_a_time_closes_it(limiters: list[Limiter], conn: Connection) -> None:
    """When the pause is over, one call of all hosts goes through while the others are refused; then all may."""
    entry, inside = tool(breaker=BREAKER), count()
    for _ in range(3):
        await fail(limiters[0], entry)
    await limiters[0].breakers.exchange()
    await conn.execute(b"UPDATE duework.tool_breaker SET open_until = now()")
    for limiter in limiters:
        await limiter.breakers.exchange()
    reached, free = asyncio.Event(), asyncio.Event()

    async def begin(_entry: ToolEntry, _arguments: Any, _call: Call) -> str:
        next(inside)
        reached.set()
        await free.wait()
        return "up"

    calls = [
        asyncio.create_task(limiter.call(entry, {}, call(), begin)) for limiter in limiters for _ in range(3)
    ]
    await reached.wait()
    await poll_until(lambda: sum(each.done() for each in calls) == len(calls) - 1)
    free.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert answers.count("up") == 1
    assert sum(isinstance(each, ToolUnavailable) for each in answers) == len(calls) - 1
    assert next(inside) == 1
    for limiter in limiters:
        await limiter.breakers.exchange()
        assert await limiter.call(entry, ONE, call(), answer) == ONE
    assert [row["state"] for row in await limits.breakers(conn)] == ["closed"]


async def test_a_probe_that_fails_opens_it_again(limiters: list[Limiter], conn: Connection) -> None:
    """For the whole pause; one that was canceled leaves the next to another."""
    entry = tool(breaker=BREAKER)
    for _ in range(3):
        await fail(limiters[0], entry)
    for error, state in ((asyncio.CancelledError(), "half_open"), (ToolUnavailable("down"), "open")):
        await limiters[0].breakers.exchange()
        await conn.execute(
            b"UPDATE duework.tool_breaker SET open_until = CASE WHEN state = 'open' THEN now() END"
        )
        await limiters[0].breakers.exchange()
        await fail(limiters[0], entry, error)
        await limiters[0].breakers.exchange()
        assert [row["state"] for row in await limits.breakers(conn)] == [state]
