"""The settler: results of finished runs, written in groups.

A flush takes everything that has gathered and writes it in one statement per kind; the next begins when it
ends, so a lone run waits for nobody. While more leases wait than there are slots, a flush waits for GROUP
results, GATHER at most: each commit has a price of its own (group commit). A batch with one bad row is
bisected, so that the row costs no other run its lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from engine import db, telemetry
from engine.db import Connection, Pool, Row
from engine.errors import OutputInvalid
from engine.plan import Hold, StepRecord
from engine.store import leases
from engine.store.failures import UNSUCCESSFUL

FULL = 500
"""Results that one flush takes at most, and that wait before the slots are made to wait too."""
GROUP = 200
"""Results that a flush waits for while more are sure to come within moments."""
GATHER = 0.05
"""Seconds that it waits for them at most: how much later than it could a result of a backlog is on disk."""
ENDED_BADLY = UNSUCCESSFUL | {"expired"}
"""Ends that somebody has to look at; a run whose workers died is settled when its on_failure steps have run."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How one lease ends. `kind`: settle (the run is over), hold (the same, and it may be released), retry (after
    `delay`), release (attempt given back).

    decided: nothing is left to write, the row went with its condition's decision. `keyed`: the run holds a number
    under a concurrency key.
    """

    kind: str
    run_id: UUID
    fence: int
    status: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: Mapping[str, Any] | None = None
    output: Any = None
    steps: Sequence[StepRecord] = ()
    delay: timedelta = timedelta(0)
    state: Mapping[str, Any] | None = None
    checkpointed: bool = False
    keyed: bool = False
    task_id: UUID | None = None
    hold: Hold | None = None


Done = Callable[[bool], None]
"""Called once the settlement is written: whether its fence was good."""
Writer = Callable[[Connection, Sequence[Settlement]], Awaitable[set[UUID]]]


class Settler:
    """Gathers settlements; `run` flushes them until `stop`, and `drain` waits until all are written.

    `failed` is told the tasks of runs that have ended without success. `flowing` tells whether many more results
    are about to come; once they are not, `hurry` ends the wait for them.
    """

    def __init__(self, pool: Pool, failed: Callable[[UUID], None] | None = None) -> None:
        self.pool = pool
        self._failed = failed
        self._waiting: list[tuple[Settlement, Done]] = []
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._enough = asyncio.Event()
        self.flowing: Callable[[], bool] = lambda: False
        self._log = telemetry.logger("workers.settler")

    async def add(self, settlement: Settlement, done: Done) -> None:
        """Hand a result over; waits only while the database is behind."""
        await self._room.wait()
        self._waiting.append((settlement, done))
        self._idle.clear()
        self._arrived.set()
        if len(self._waiting) >= GROUP:
            self._enough.set()
        if len(self._waiting) >= FULL:
            self._room.clear()

    def hurry(self) -> None:
        """Write what is there: nothing is sure to follow soon."""
        self._enough.set()

    async def drain(self) -> None:
        """Wait until everything that was handed over is written."""
        self.hurry()
        await self._idle.wait()

    async def flush(self) -> None:
        """One round: wait for results, write all that are there. A failed batch stays for the next round."""
        await self._arrived.wait()
        await self._gather()
        batch = self._waiting[:FULL]
        async with self.pool.connection() as conn:
            kept = await self._write(conn, [settlement for settlement, _ in batch])
        del self._waiting[: len(batch)]
        for settlement, done in batch:
            done(settlement.run_id in kept)
        if len(self._waiting) < FULL:
            self._room.set()
        if not self._waiting:
            self._arrived.clear()
            self._idle.set()

    async def _gather(self) -> None:
        self._enough.clear()
        if len(self._waiting) < GROUP and self.flowing():
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER):
                    await self._enough.wait()

    async def _write(self, conn: Connection, batch: Sequence[Settlement]) -> set[UUID]:
        writers: dict[str, Writer] = {
            "settle": self._settle,
            "hold": self._hold,
            "retry": self._retry,
            "release": self._release,
        }
        kept: set[UUID] = set()
        for kind, writer in writers.items():
            group = [one for one in batch if one.kind == kind]
            if group:
                kept |= await self._bisected(conn, group, writer)
        return kept

    async def _bisected(self, conn: Connection, group: Sequence[Settlement], writer: Writer) -> set[UUID]:
        try:
            return await writer(conn, group)
        except (psycopg.Error, TypeError, ValueError, RecursionError) as error:
            if db.is_outage(error):
                raise  # the batch waits for the database, and is written then
            self._log.warning("settle.bisected", size=len(group), kind=type(error).__name__)
            if len(group) == 1:
                return await self._alone(conn, group[0], error)
            middle = len(group) // 2
            first = await self._bisected(conn, group[:middle], writer)
            return first | await self._bisected(conn, group[middle:], writer)

    async def _alone(self, conn: Connection, one: Settlement, error: Exception) -> set[UUID]:
        """End a run whose result cannot be written; if not even that can be, its lease runs out and is reaped."""
        try:
            return await self._settle(conn, [_unstorable(one, error)])
        except psycopg.Error as again:
            if db.is_outage(again):
                raise
            return set()

    async def _settle(self, conn: Connection, group: Sequence[Settlement]) -> set[UUID]:
        checkpointed = [one.run_id for one in group if one.checkpointed]
        # One commit, or a reader would see the steps of such a run twice; others need no second statement.
        async with conn.transaction() if checkpointed or _keyed(group) else nullcontext():
            kept = await leases.settle(conn, [_run_row(one) for one in group], _step_rows(group))
            if checkpointed:
                bare = [
                    one.run_id for one in group if one.checkpointed and not one.steps
                ]  # their only history
                if bare:
                    await leases.archive_checkpoints(conn, bare)
                await leases.forget_checkpoints(conn, [run_id for run_id in checkpointed if run_id in kept])
        for one in group:
            if self._failed and one.task_id and one.status in ENDED_BADLY and one.run_id in kept:
                self._failed(one.task_id)
        return kept

    async def _hold(self, conn: Connection, group: Sequence[Settlement]) -> set[UUID]:
        # Apart from the others: both statements lock these rows, and the second no row that the first has not.
        async with conn.transaction():
            await leases.hold(conn, [_held_row(one) for one in group])
            return await self._settle(conn, group)

    async def _retry(self, conn: Connection, group: Sequence[Settlement]) -> set[UUID]:
        async with conn.transaction() if _keyed(group) else nullcontext():
            return await leases.retry(conn, [_run_row(one) for one in group], _step_rows(group))

    async def _release(self, conn: Connection, group: Sequence[Settlement]) -> set[UUID]:
        async with conn.transaction() if _keyed(group) else nullcontext():
            return await leases.release(conn, [_run_row(one) for one in group])


def _keyed(group: Sequence[Settlement]) -> bool:
    """Whether a number under a concurrency key is freed with the group: in one commit, or a crash would leak it."""
    return any(one.keyed for one in group)


def _run_row(one: Settlement) -> Row:
    return {
        "id": str(one.run_id),
        "fence": one.fence,
        "status": one.status,
        "started_at": one.started_at and one.started_at.isoformat(),
        "finished_at": one.finished_at and one.finished_at.isoformat(),
        "error": one.error,
        "output": one.output,
        "delay": one.delay.total_seconds(),
        "state": one.state,
    }


def _held_row(one: Settlement) -> Row:
    assert one.hold is not None, "only a blocked run is held"
    assert one.finished_at is not None, "it has ended"
    return {
        "id": str(one.run_id),
        "fence": one.fence,
        "held_at": one.finished_at.isoformat(),
        "findings": list(one.hold.findings),
        "records": [record.as_dict() for record in one.hold.records],
        "state": dict(one.hold.state),
    }


def _step_rows(group: Sequence[Settlement]) -> list[Row]:
    rows = []
    for one in group:
        run_id = str(one.run_id)
        for step in one.steps:
            row = step.as_dict()
            row["run_id"] = run_id
            rows.append(row)
    return rows


def _unstorable(one: Settlement, error: Exception) -> Settlement:
    """The same run, ended as failed without the value that PostgreSQL refused."""
    state = getattr(error, "sqlstate", None) or type(error).__name__
    reason = OutputInvalid(f"PostgreSQL cannot store what the run produced: {state}")
    return Settlement(
        "settle",
        one.run_id,
        one.fence,
        status="failed",
        started_at=one.started_at,
        finished_at=one.finished_at,
        error=reason.as_dict(),
        checkpointed=one.checkpointed,
        keyed=one.keyed,
        task_id=one.task_id,
    )
