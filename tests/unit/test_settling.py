"""How many results one statement writes, without a database: as many as come while more are sure to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from engine.store import leases
from tests.polling import others_run
from workers import settler as settling
from workers.settler import GROUP, Settlement, Settler


class NoPool:
    """Hands out connections that are none."""

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        """Nothing to talk to."""
        yield None


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each statement has settled."""
    sizes: list[int] = []

    async def settle(_conn: None, runs: Sequence[dict[str, Any]], _steps: object) -> set[UUID]:
        sizes.append(len(runs))
        return {UUID(run["id"]) for run in runs}

    monkeypatch.setattr(leases, "settle", settle)
    monkeypatch.setattr(settling, "GATHER", 3600)
    return sizes


async def add(settler: Settler, many: int) -> None:
    """Hand over results, each with the event loop's turn between."""
    for number in range(many):
        await settler.add(Settlement("settle", UUID(int=number), 1, "succeeded"), lambda kept: None)
        await others_run(1)


async def test_one_statement_writes_what_keeps_coming(written: list[int]) -> None:
    """While many more are about to come, a flush waits for a whole group."""
    settler = Settler(NoPool())  # type: ignore[arg-type]  # all of a pool that it needs
    settler.flowing = lambda: True
    flush = asyncio.create_task(settler.flush())
    await add(settler, GROUP)
    await flush
    assert written == [GROUP]


async def test_a_lone_result_waits_for_nobody(written: list[int]) -> None:
    """Where nothing is about to come, each flush begins at once."""
    settler = Settler(NoPool())  # type: ignore[arg-type]  # all of a pool that it needs
    for _ in range(2):
        flush = asyncio.create_task(settler.flush())
        await add(settler, 1)
        await flush
    assert written == [1, 1]


@pytest.mark.parametrize("end", ["hurry", "drain"])
async def test_the_last_ones_of_a_backlog_are_not_waited_for(written: list[int], end: str) -> None:
    """Once nothing is left to run, or the process drains, what is there is written."""
    settler = Settler(NoPool())  # type: ignore[arg-type]  # all of a pool that it needs
    settler.flowing = lambda: True
    flush = asyncio.create_task(settler.flush())
    await add(settler, 3)
    assert not written
    if end == "hurry":
        settler.hurry()
        await flush
    else:
        await settler.drain()
    assert written == [3]
