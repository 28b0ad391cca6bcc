"""A worker in this process that can be killed between two statements, or cut off from its database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import psycopg

from engine.db import Connection, Pool
from engine.errors import StoreUnavailable
from engine.metrics import Metrics
from engine.settings import Settings
from engine.store.workers import Process
from engine.tools.toolbox import open_toolbox
from tests.chaos.walk.tools import CountedTools, catalog
from tests.chaos.walk.world import Killed, World, lapse
from tests.factories import rows
from workers.config import WorkerConfig
from workers.coordinator import Coordinator
from workers.runner import Runner
from workers.settler import Settler

EXPIRE = """
UPDATE duework.due_work SET locked_until = now() - interval '1 s'
WHERE locked_by = %s AND locked_until IS NOT NULL RETURNING id
"""
LEASE = timedelta(minutes=10)
"""Long, so that no slow machine loses one; those that shall be lost are made to run out."""


class FaultyPool:
    """The pool that all workers share, as one of them sees it: it may refuse, and it may be the last thing seen.

    `statements`: how many more connections the worker is given before it is dead. The last is either refused, or used
    and committed without the worker ever hearing of it. `outage` is the chance of a refusal, before or after.
    """

    def __init__(self, pool: Pool, world: World, on_kill: Callable[[], None]) -> None:
        self.pool = pool
        self.world = world
        self.on_kill = on_kill
        self.dead = False
        self.statements: int | None = None
        self.outage = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pool, name)

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Connection]:
        """A connection of the real pool, between two chances of trouble."""
        self._count()
        self._refuse("before")
        async with self.pool.connection(timeout) as conn:
            yield conn
        if self.dead or self._spent:
            self._die()
        self._refuse("after")

    @property
    def _spent(self) -> bool:
        return self.statements is not None and self.statements <= 0

    def _count(self) -> None:
        if self.dead:
            raise Killed
        if self.statements is not None:
            self.statements -= 1
        if self._spent and self.world.chance(0.5):
            self._die()

    def _refuse(self, when: str) -> None:
        if self.world.chance(self.outage):
            raise psycopg.OperationalError(f"an outage {when} the statement")

    def _die(self) -> None:
        self.dead = True
        self.on_kill()
        raise Killed


class Worker:
    """Coordinator, runner and settler of one worker; `start` it, then `drain` it or, once it is dead, `bury` it."""

    def __init__(self, world: World, number: int, shared: Pool) -> None:
        self.world = world
        self.id = f"walk-{number}"
        self.pool = FaultyPool(shared, world, self._killed)
        self._stack = AsyncExitStack()
        self._loops: list[asyncio.Task[None]] = []
        self._draining: asyncio.Task[None] | None = None

    async def start(self) -> Worker:
        """Begin to lease."""
        settings, pool, metrics = Settings(database_url=self.world.url), cast(Pool, self.pool), Metrics()
        real = await self._stack.enter_async_context(open_toolbox(settings, pool))
        self.settler = Settler(pool, None)
        self.runner = Runner(settings, pool, CountedTools(self.world, real), catalog(), metrics)
        self.coordinator = Coordinator(self._config(), pool, self.runner, self.settler, metrics)
        rounds = (self.coordinator.fetch, self.settler.flush, self._renew)
        self._loops = [asyncio.create_task(self._repeat(one)) for one in rounds]
        return self

    def _config(self) -> WorkerConfig:
        """A drain that waits for nothing, for little or for most runs."""
        return replace(
            WorkerConfig.of(Settings()),
            process=replace(Process.here("worker"), id=self.id),
            concurrency=4,
            buffer=4,
            lease=LEASE,
            poll=timedelta(milliseconds=15),
            poll_only=True,
            drain=timedelta(milliseconds=self.world.dice.choice([0, 20, 200])),
        )

    async def _renew(self) -> None:
        await lapse(0.02)
        await self.coordinator.renew()

    async def _repeat(self, one_round: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await one_round()
            except (psycopg.Error, StoreUnavailable):
                await lapse(0.005)
            except Killed:
                return

    def _killed(self) -> None:
        """Cancel from outside: who is killed stands in the middle of a task of its own."""
        self.world.note(f"{self.id} dies")
        asyncio.get_running_loop().call_soon(self.stop)

    def stop(self) -> None:
        """Nothing of this worker goes on."""
        self.pool.dead = True
        for task in (*self._loops, *self.coordinator._running):
            task.cancel()
        if self._draining is not None:
            self._draining.cancel()  # it would wait for a settler that nobody drives any more

    async def bury(self) -> None:
        """See the dead worker's last task end, and let its leases run out."""
        self.stop()
        self.coordinator.draining = True
        await asyncio.gather(*self._loops, return_exceptions=True)
        while self.coordinator._running:
            self.stop()
            await asyncio.gather(*self.coordinator._running, return_exceptions=True)
        with suppress(Killed, psycopg.Error, StoreUnavailable):
            await self._stack.aclose()  # the limiter writes through the pool of the dead
        async with self.world.lock:
            freed = await rows(self.world.looks, EXPIRE, self.id)
        self.world.note(f"{self.id} is buried; runs out: {[str(row['id'])[-4:] for row in freed]}")

    async def drain(self) -> None:
        """Let the worker end politely; the settler's loop goes on until everything is written."""
        self._draining = asyncio.create_task(self.coordinator.drain())
        await self._draining
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._stack.aclose()

    async def end(self) -> None:
        """Drain, or bury what dies of it."""
        if not self.pool.dead:
            try:
                await self.drain()
            except (Killed, psycopg.Error, StoreUnavailable):
                self.stop()
            except asyncio.CancelledError:
                if not self.pool.dead:
                    raise
        if self.pool.dead:
            await self.bury()
