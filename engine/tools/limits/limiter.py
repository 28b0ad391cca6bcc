"""The limits of catalog entries around their calls: breaker, concurrency, rate, in this order.

A call that may soon begin waits here for up to PATIENCE; one that has to wait for longer gives its worker back
(Parked). The time that a call waits is not counted into its timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from engine import telemetry
from engine.db import Pool
from engine.limits import PATIENCE
from engine.service import Service, attempted
from engine.store.workers import Process
from engine.tools.calls import Answer, Arguments, Call
from engine.tools.entry import ToolEntry
from engine.tools.limits.breakers import Breakers
from engine.tools.limits.slots import Slots
from engine.tools.limits.tokens import Bucket

EXCHANGE = timedelta(seconds=1)
"""How often breakers are read and what was seen is written."""

Begin = Callable[[ToolEntry, Arguments, Call], Awaitable[Answer]]


class Limiter:
    """One process's share of all limits."""

    def __init__(self, pool: Pool, ttl: timedelta) -> None:
        self.pool = pool
        self.slots = Slots(pool, Process.here("limits").id, ttl)
        self.breakers = Breakers(pool)
        self._buckets: dict[str, Bucket] = {}
        self._renewed = 0.0

    async def call(self, entry: ToolEntry, arguments: Arguments, call: Call, begin: Begin) -> Answer:
        """What `begin` answers, once it is let in. Raises ToolUnavailable, Parked, TimeoutError besides."""
        async with AsyncExitStack() as stack:
            if entry.breaker is not None:
                await self.breakers.admit(entry)
            if entry.concurrency is not None:
                await stack.enter_async_context(self.slots.hold(entry, entry.concurrency, PATIENCE))
            if entry.rate is not None:
                await self._bucket(entry.name).take(entry.rate, PATIENCE)
            if entry.breaker is not None:
                await stack.enter_async_context(self.breakers.watch(entry, entry.breaker, call))
            async with asyncio.timeout(call.timeout.total_seconds()):
                return await begin(entry, arguments, call)

    def _bucket(self, tool: str) -> Bucket:
        bucket = self._buckets.get(tool)
        if bucket is None:
            bucket = self._buckets[tool] = Bucket(self.pool, tool)
        return bucket

    async def keep(self) -> None:
        """One round of what keeps the shares true: give back, prolong, exchange. Waits for news, or a second."""
        loop = asyncio.get_running_loop()
        waits = [loop.create_task(event.wait()) for event in (self.slots.news, self.breakers.news)]
        try:
            await asyncio.wait(waits, timeout=EXCHANGE.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        await self.settle()

    async def settle(self) -> None:
        """Write down now what calls have left to be written, and read what others have written."""
        self.slots.news.clear()
        self.breakers.news.clear()
        await self.slots.give_back()
        now = asyncio.get_running_loop().time()
        if now - self._renewed > self.slots.ttl.total_seconds() / 3:
            self._renewed = now
            await self.slots.renew()
        await self.breakers.exchange()


@asynccontextmanager
async def open_limiter(pool: Pool, ttl: timedelta) -> AsyncIterator[Limiter]:
    """A limiter whose numbers are kept for `ttl` at a time; at the end everything is given back."""
    limiter = Limiter(pool, ttl)
    service = Service("tools.limits", limiter.keep, timedelta(0))
    keeper = asyncio.create_task(service.run())
    try:
        yield limiter
    finally:
        while not keeper.done():  # a pool that hands out a connection at that moment swallows a cancellation
            keeper.cancel()
            await asyncio.wait([keeper], timeout=1)
        await limiter.slots.empty()
        await attempted(limiter.settle, telemetry.logger(service.name))
