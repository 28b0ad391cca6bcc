"""Quarantine while others are at work: words at once, cancellations, workers that die, attempts that follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from engine import db
from engine.db import Connection, Pool
from engine.errors import Conflict, ToolUnavailable
from engine.metrics import Metrics
from engine.settings import Settings
from engine.store import leases
from scheduler import reaper
from tests.factories import lease_one, make_task, one, queue, rows, step
from tests.quarantine import (
    NOTE,
    Bench,
    blocked,
    history,
    refuse,
    release,
    status,
)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with db.pool(Settings(database_url=database_url), "test", size=3) as made:
        yield made


@pytest.fixture
async def bench(pool: Pool) -> Bench:
    return Bench(pool)


async def test_two_words_at_once(conn: Connection, bench: Bench, pool: Pool) -> None:
    """Of ten that speak at the same moment one is heard, and the run is queued at most once."""
    bench.answers = {"a": NOTE}
    run_id = await blocked(conn, bench)

    async def speak(number: int) -> str:
        word = refuse if number % 2 else release
        try:
            async with pool.connection() as other:
                await word(other, run_id)
        except Conflict as error:
            return str(error)
        return "heard"

    answers = await asyncio.gather(*(speak(number) for number in range(10)))
    assert answers.count("heard") == 1
    assert all("was re" in answer for answer in answers if answer != "heard"), answers
    queued = await one(conn, "SELECT count(*) FROM duework.due_work")
    assert queued == (await one(conn, "SELECT decision FROM duework.held_run") == "released")


async def test_a_release_and_a_cancellation(conn: Connection, bench: Bench) -> None:
    """Canceled before its lease it ends as canceled, once; its steps are told once, and its word stays spoken."""
    bench.answers = {"b": NOTE}
    run_id = await blocked(conn, bench, step("a", "t.once"), step("b", "t.once"))
    async with conn.transaction():
        assert await leases.cancel(conn, run_id, "enough") is None, "a blocked run is not live"
    await release(conn, run_id)
    async with conn.transaction():
        assert await leases.cancel(conn, run_id, "enough") == "canceled"
    assert await status(conn, run_id) == "canceled"
    assert await history(conn, run_id) == [("a", None, 1, "succeeded"), ("b", None, 1, "blocked")]
    with pytest.raises(Conflict, match="and is canceled now"):
        await release(conn, run_id)


async def test_an_exemption_survives_its_worker(conn: Connection, bench: Bench, pool: Pool) -> None:
    """Leases are lost, attempts fail and are tried again: the finding passes still, and no release costs an attempt."""
    bench.answers = {"a": NOTE, "b": ToolUnavailable("not now")}
    run_id = await blocked(
        conn, bench, step("a", "t.again"), step("b", "t.again"), retry={"max_attempts": 2, "delay": "1ms"}
    )
    await release(conn, run_id)
    for _ in range(3):
        await lease_one(conn)
        await conn.execute(b"UPDATE duework.due_work SET locked_until = now() - interval '1 s'")
        await reaper.reap(pool, Metrics())
    assert await status(conn, run_id) == "queued", "crashes are forgiven as they are without a release"
    bench.calls.clear()
    await bench.work(conn)
    assert bench.called() == ["a", "b"]
    assert await status(conn, run_id) == "failed"


async def test_a_release_leaves_the_retries_that_were_left(conn: Connection, bench: Bench) -> None:
    """Blocked in its first of two attempts, a run has its second after the release; the exemption goes with it."""
    bench.answers = {"a": NOTE, "b": ToolUnavailable("not now")}
    steps = step("a", "t.again"), step("b", "t.again")
    run_id = await blocked(conn, bench, *steps, retry={"max_attempts": 2, "delay": "1ms"})
    await release(conn, run_id)
    assert (await bench.work(conn)).kind == "retry"
    bench.answers["b"] = "fine"
    await conn.execute(b"UPDATE duework.due_work SET run_at = now()")
    assert (await bench.work(conn)).status == "succeeded"
    assert await one(conn, "SELECT attempt FROM duework.runs") == 3


async def test_a_worker_that_dies_while_it_tells_of_a_block(
    conn: Connection, bench: Bench, pool: Pool
) -> None:
    """A run that is lost within its on_failure steps is held all the same, and those are called for its next end."""
    bench.answers = {"b": NOTE}
    steps = step("a", "t.once"), step("b", "t.once")
    run_id = await queue(conn, await make_task(conn, steps=steps, on_failure=[step("tell", "t.once")]))
    await bench.execute(conn)
    await conn.execute(b"UPDATE duework.due_work SET locked_until = now() - interval '1 s'")
    await reaper.reap(pool, Metrics())
    assert (await bench.work(conn)).status == "blocked"
    assert bench.called() == ["a", "b", "tell"], "what was told is told once"
    await release(conn, run_id)
    bench.answers["b"] = ToolUnavailable("not now")
    assert (await bench.work(conn)).status == "failed"
    assert bench.called() == ["b", "tell"]


async def test_a_stale_lease_holds_nothing(conn: Connection, bench: Bench, pool: Pool) -> None:
    """A worker whose lease was lost meanwhile neither ends the run nor leaves a row."""
    bench.answers = {"a": NOTE}
    await queue(conn, await make_task(conn, steps=[step("a", "t.again")]))
    late = await bench.execute(conn)
    await conn.execute(b"UPDATE duework.due_work SET locked_until = now() - interval '1 s'")
    await reaper.reap(pool, Metrics())
    assert not await bench.settle(late)
    assert await one(conn, "SELECT count(*) FROM duework.held_run") == 0
    await bench.work(conn)
    assert await one(conn, "SELECT count(*) FROM duework.held_run") == 1


async def test_what_was_spent_and_who_asked_go_on(conn: Connection, bench: Bench) -> None:
    """Budget, priority, concurrency key and author are those of the run; it waits for its key, whatever the policy."""
    bench.answers = {"a": {"usage": {"tokens": 60}}, "b": NOTE, "c": {"usage": {"tokens": 60}}, "d": "fine"}
    steps = [step(name, "t.again") for name in "abcd"]
    members: dict[str, Any] = {
        "budget": {"max_tokens": 100},
        "priority": 2,
        "concurrency": {"key": "house", "limit": 1, "on_conflict": "skip"},
    }
    author = UUID("00000000-0000-0000-0000-000000000001")
    run_id = await queue(conn, await make_task(conn, steps=steps, **members), created_by=author)
    await bench.work(conn)
    await release(conn, run_id)
    columns = "priority, concurrency_key, concurrency_limit, on_conflict, created_by, attempt"
    (row,) = await rows(conn, f"SELECT {columns} FROM duework.due_work")
    assert list(row.values()) == [2, "key:house", 1, "queue", author, 1]
    settlement = await bench.work(conn)
    assert (settlement.error or {})["code"] == "budget_exceeded"
    assert bench.called() == ["a", "b", "b", "c"]
