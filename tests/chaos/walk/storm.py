"""What happens to a walk from outside: people and events that answer its waits, and, in a storm, trouble."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from unittest.mock import patch
from uuid import UUID

import psycopg

from engine import db
from engine.db import Connection, Pool, Row
from engine.errors import Conflict
from engine.execution import course, tries
from engine.metrics import Metrics
from engine.pipeline import parse_definition
from engine.store import approvals, events, leases, tasks
from engine.store.approvals import Decision
from engine.store.events import Event
from scheduler import reaper
from tests.chaos.walk.pipelines import Drawn
from tests.chaos.walk.tools import catalog
from tests.chaos.walk.worker import Worker
from tests.chaos.walk.world import World
from tests.factories import document, rows, step
from workers import runner

OPEN = """
SELECT run_id, step, item, kind, topic FROM duework.wait
WHERE resolved_at IS NULL AND taken_at IS NULL ORDER BY run_id, step, item
"""
LOSE = """
UPDATE duework.due_work SET locked_until = now() - interval '1 s'
WHERE id = (SELECT id FROM duework.due_work WHERE locked_until IS NOT NULL ORDER BY random() LIMIT 1)
  AND locked_until IS NOT NULL RETURNING id
"""
TROUBLES, DEATHS, CANCELS = 9, 4, 3
"""At most so many troubles per walk; so few deaths that no run uses up its attempts by them."""
APPROVED = Decision("approve", "ada", "fine", admin=True)


@asynccontextmanager
async def haste(world: World, wild: bool) -> AsyncIterator[None]:
    """Park for every wait, however short; in a storm, let some batches of settlements fail and be bisected."""
    settle = leases.settle

    async def failing(conn: Connection, runs: Sequence[Row], steps: Sequence[Row]) -> set[UUID]:
        if len(runs) > 1 and world.chance(0.3):
            raise psycopg.DataError("one row of the batch is bad")
        return await settle(conn, runs, steps)

    with (
        patch.object(tries, "INLINE", timedelta(0)),
        patch.object(runner, "OUTAGE", timedelta(milliseconds=5)),
        patch.object(course, "LOOK", timedelta(milliseconds=30)),
        patch.object(leases, "settle", failing) if wild else nullcontext(),
    ):
        yield


@dataclass(slots=True)
class Storm:
    """The surroundings of one walk. `conn` and `other` are two people's connections."""

    world: World
    wild: bool
    conn: Connection
    other: Connection
    pool: Pool
    drawn: Sequence[Drawn]
    runs: Sequence[UUID]
    workers: list[Worker] = field(default_factory=list)
    canceled: set[UUID] = field(default_factory=set)
    hired: int = 0
    troubles: int = 0

    async def hire(self) -> Worker:
        """One more worker, under a number of its own."""
        self.hired += 1
        worker = Worker(self.world, self.hired, self.pool)
        worker.pool.outage = self.world.dice.choice([0.0, 0.0, 0.02]) if self.wild else 0.0
        return await worker.start()

    async def answer(self) -> None:
        """Decide and publish what runs wait for; now and then publish before anybody waits."""
        for wait in await rows(self.conn, OPEN):
            if self.world.chance(0.4 if self.wild else 0.9):
                await self._resolve(wait)
        for run_id, drawn in zip(self.runs, self.drawn, strict=True):
            for topic in drawn.topics:
                if self.world.chance(0.06):
                    await self._publish(topic, run_id)

    async def _resolve(self, wait: Row) -> None:
        if wait["kind"] == "approval":  # two people at once
            await asyncio.gather(self._decide(self.conn, wait), self._decide(self.other, wait))
        elif wait["kind"] == "event":
            await self._publish(wait["topic"], wait["run_id"])

    async def _decide(self, conn: Connection, wait: Row) -> None:
        item = None if wait["item"] < 0 else wait["item"]
        with suppress(Conflict):  # the run was canceled, or has gone on
            async with conn.transaction():
                await approvals.decide(conn, wait["run_id"], APPROVED, step=wait["step"], item=item)

    async def _publish(self, topic: str, run_id: UUID) -> None:
        async with self.conn.transaction():
            await events.publish(self.conn, Event(topic, {"key": str(run_id)}, "walk"))

    async def keep_house(self) -> None:
        """What schedulers do beside ticking, and new workers in the places of the dead."""
        async with self.pool.connection() as conn:
            await leases.promote(conn)
            if self.world.chance(0.1):
                with suppress(psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled):
                    await leases.rotate(conn, timedelta(0))
                    await leases.truncate_drained(conn)
                    await leases.move_stragglers(conn, timedelta(0))
        await reaper.reap(self.pool, Metrics())
        for place, worker in enumerate(self.workers):
            if worker.pool.dead:
                await worker.bury()
                self.workers[place] = await self.hire()

    async def trouble(self) -> None:
        """One trouble at most, while there is any left."""
        if self.troubles >= TROUBLES or not self.world.chance(0.35):
            return
        self.troubles += 1
        kinds = (self._kill, self._kill, self._lose, self._lose)
        calmer = (self._drain, self._cancel, self._edit, self._reload)
        await self.world.dice.choice((*kinds, *calmer))()

    async def _kill(self) -> None:
        if self.world.kills < DEATHS:
            self.world.kills += 1
            worker, left = self.world.dice.choice(self.workers), self.world.dice.randint(1, 6)
            worker.pool.statements = left
            self.world.note(f"{worker.id} will die at statement {left} from now")

    async def _lose(self) -> None:
        if self.world.kills >= DEATHS:
            return
        # Its worker may just have moved the row to another partition: then nothing is lost.
        with suppress(psycopg.errors.SerializationFailure):
            for lost in await rows(self.conn, LOSE):
                self.world.kills += 1
                self.world.note(f"the lease of run {lost['id']} runs out under its worker")

    async def _drain(self) -> None:
        place = self.world.dice.randrange(len(self.workers))
        self.world.note(f"{self.workers[place].id} is drained")
        await self.workers[place].end()
        self.workers[place] = await self.hire()

    async def _cancel(self) -> None:
        run_id = self.world.dice.choice(self.runs)
        if len(self.canceled) < CANCELS:
            async with self.conn.transaction():
                told = await leases.cancel(self.conn, run_id, "enough")
            if told is not None:
                self.canceled.add(run_id)
                self.world.note(f"run {run_id}: {told}")

    async def _edit(self) -> None:
        """Runs keep the version that they began with."""
        name = f"job{self.world.dice.randrange(len(self.runs))}"
        other = document(name, [step("other", with_={"text": str(self.world.dice.random())})])
        async with self.conn.transaction():
            current = await tasks.get(self.conn, name, lock=True)
            await tasks.change(self.conn, current, parse_definition(other), await db.clock(self.conn))
        self.world.note(f"{name} is edited")

    async def _reload(self) -> None:
        for worker in self.workers:
            worker.runner.reload(catalog())
        self.world.note("catalogs are reloaded")
