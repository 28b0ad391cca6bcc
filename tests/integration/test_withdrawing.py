"""What a change of a task takes back while others hold the row of the queue at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from engine import db
from engine.db import Connection
from engine.store import leases, tasks
from scheduler.tick import tick
from tests.factories import make_task, one, waits
from tests.polling import poll_until

T0 = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ROWS = "SELECT count(*) FROM duework.due_work"


async def _promoted(conn: Connection) -> None:
    assert await leases.promote(conn, now=T0 + MINUTE) == 1


async def _leased(conn: Connection) -> None:
    assert len(await leases.lease(conn, "w1", 1, MINUTE, now=T0 + MINUTE)) == 1


async def _locked(conn: Connection) -> None:
    await conn.execute("SELECT FROM duework.due_work FOR UPDATE")


@pytest.mark.parametrize(
    ("slot", "holder", "left"),
    [(-1, _promoted, 0), (0, _leased, 1), (0, _locked, 0)],
    ids=["promoted", "leased", "locked"],
)
async def test_a_held_row_is_waited_for(
    conn: Connection,
    database_url: str,
    slot: int,
    holder: Callable[[Connection], Awaitable[None]],
    left: int,
) -> None:
    """A pause takes back a row that was only being moved or looked at; one that was being leased runs."""
    await make_task(conn, schedule={"every": "1m"}, now=T0)
    async with conn.transaction():
        await tick(conn, MINUTE, MINUTE, 100, now=T0)
    await conn.execute("UPDATE duework.due_work SET slot = %s", [slot])
    async with (
        await db.connect(database_url, "holder") as other,
        await db.connect(database_url, "edit") as third,
    ):

        async def pause() -> None:
            async with third.transaction():
                await tasks.pause(third, "job", T0 + MINUTE / 2)

        async with other.transaction():
            await holder(other)
            paused = asyncio.create_task(pause())
            await poll_until(lambda: waits(conn, third))
        await paused
    assert await one(conn, ROWS) == left
    ledger = "SELECT count(*) FROM duework.occurrence WHERE run_id IS NOT NULL"
    assert await one(conn, ledger) == left
