"""kill -9 at every point of a pipeline of twenty steps: each effect happens once, and no finished step is called again.

The effects are requests to a server that kills the worker in the middle of each: before it acts, after it has acted and
before it answers, and right after the answer, while the worker writes its checkpoint.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from engine.db import Connection, Row
from engine.settings import Settings, child_environment
from engine.store import leases
from tests.factories import make_task, queue, rows, step, until
from tests.polling import poll_until
from tests.processes import settings_for

STEPS = 20
MOMENTS = ("before", "acted", "answered")
EXPIRE = "UPDATE duework.due_work SET locked_until = now() - interval '1 ms' WHERE locked_by IS NOT NULL"
FINAL = "SELECT status, attempt FROM duework.attempts WHERE run_id = %s AND final"
Point = tuple[str, str]
"""The end of an idempotency key, and the moment within its request."""


@dataclass(slots=True)
class Ledger:
    """Effects by idempotency key, and how often each was asked for; `points` are those at which to kill, each once."""

    points: set[Point]
    effects: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)
    pid: int = 0
    killed: bool = False

    def at(self, key: str, moment: str) -> bool:
        """Kill the worker if this is a point, and it still lives; whether it was."""
        point = (key.split(":", 1)[1], moment)
        if self.killed or point not in self.points:
            return False
        self.points.remove(point)
        os.kill(self.pid, signal.SIGKILL)
        self.killed = True
        return True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._answer(reader, writer):
                pass
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}
        await reader.readexactly(int(headers.get("content-length", 0)))
        key = headers["idempotency-key"]
        self.asked[key] += 1
        if self.at(key, "before"):
            return False
        self.effects.add(key)
        if self.at(key, "acted"):
            return False
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        return not self.at(key, "answered")


@dataclass(slots=True)
class Nursery:
    """The process that workers are forked from."""

    process: asyncio.subprocess.Process
    ledger: Ledger

    async def worker(self) -> None:
        """Start a worker; it is the one that will be killed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        self.ledger.pid = int(await self.process.stdout.readline())


@asynccontextmanager
async def nursery_of(settings: Settings, ledger: Ledger, log: Path) -> AsyncIterator[Nursery]:
    """A nursery; its workers end with the block."""
    with log.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.nursery",
            env=child_environment(settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream,
        )  # fmt: skip
    nursery = Nursery(process, ledger)
    try:
        await nursery.worker()
        yield nursery
    finally:
        with suppress(ProcessLookupError):
            os.kill(ledger.pid, signal.SIGKILL)
        process.kill()
        await process.wait()


def pipeline(shape: str, port: int) -> list[dict[str, Any]]:
    """Twenty effects: one after the other, as the items of a list, or as a graph."""
    call = {"url": f"http://localhost:{port}/effect", "json": {"n": 1}}
    if shape == "list":
        return [step("each", "http.post", foreach=list(range(STEPS)), max_parallel=4, with_=call)]
    made = [step(f"s{n}", "http.post", with_=call) for n in range(STEPS)]
    if shape == "graph":  # five layers of four, each step needing two of the layer before
        for n, one in enumerate(made):
            one["needs"] = [f"s{(n // 4 - 1) * 4 + (n + shift) % 4}" for shift in (0, 1)] if n >= 4 else []
    return made


def keys(shape: str) -> list[str]:
    """The ends of the idempotency keys of its effects."""
    return [f"each:{n}" if shape == "list" else f"s{n}" for n in range(STEPS)]


async def finished(conn: Connection, nursery: Nursery, run_id: UUID) -> Row:
    """The end of a run whose worker was killed at every point, and replaced."""
    ledger = nursery.ledger
    while ledger.points:
        await poll_until(lambda: ledger.killed)
        await conn.execute(EXPIRE.encode())  # as if the lease's time had passed
        await leases.reap(conn)
        ledger.killed = False
        await nursery.worker()
    (ended,) = await until(conn, FINAL, run_id)
    return ended


@pytest.mark.parametrize(
    ("shape", "moments", "beside"),
    [("order", MOMENTS, 1), ("list", ("acted",), 4), ("graph", ("acted",), 8)],
)
async def test_each_effect_happens_once(
    conn: Connection, database_url: str, tmp_path: Path, shape: str, moments: tuple[str, ...], beside: int
) -> None:
    """What is asked for again is what was under way when a worker died, and nothing that a checkpoint holds."""
    names = keys(shape)
    ledger = Ledger({(name, moment) for name in names for moment in moments})
    kills = len(ledger.points)
    server = await asyncio.start_server(ledger.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    quick = {"concurrency": 1, "log_level": "WARNING", "lease_seconds": timedelta(minutes=5)}
    settings = settings_for(database_url, http_allow="localhost", **quick)
    task = await make_task(conn, steps=pipeline(shape, port), retry={"max_attempts": 100})
    run_id = await queue(conn, task)
    async with server, nursery_of(settings, ledger, tmp_path / "nursery.log") as nursery:
        ended = await finished(conn, nursery, run_id)
    assert ended["status"] == "succeeded"
    assert kills <= ended["attempt"] <= kills + 1, "the last kill may come after the end"
    assert ledger.effects == {f"{run_id}:{name}" for name in names}
    again = ledger.asked.total() - STEPS
    assert kills - len(names) <= again <= kills * beside
    if shape == "order":
        assert set(ledger.asked.values()) <= {3, 4}, (
            "killed before, after it acted, and perhaps before the checkpoint"
        )
    steps = await rows(
        conn, "SELECT step, item, status FROM duework.steps ORDER BY position, item NULLS FIRST"
    )
    assert {row["status"] for row in steps} == {"succeeded"}
    assert len(steps) == STEPS + (shape == "list")
    assert await rows(conn, "SELECT FROM duework.checkpoint") == []
