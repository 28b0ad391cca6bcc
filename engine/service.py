"""Start, run every so often, stop: written once, for the scheduler's and the workers' loops.

A `Service` calls its coroutine again and again until it is stopped. A failure is logged and followed by a
growing pause, so that a database that is away is neither hammered nor given up on; each success resets it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from engine import telemetry

LONGEST_PAUSE = timedelta(seconds=15)


class Service:
    """One loop of one process. `wake()` cuts the current pause short; `stop()` ends it after the round."""

    def __init__(self, name: str, round_: Callable[[], Awaitable[object]], every: timedelta) -> None:
        self.name = name
        self.round = round_
        self.every = every
        self._wake = asyncio.Event()
        self._stopping = False
        self._failures = 0
        self._log = telemetry.logger(name)

    async def run(self) -> None:
        """Loop until stopped. Only cancellation and exits that are not `Exception` leave it early."""
        self._log.info("service.started", every=self.every.total_seconds())
        while not self._stopping:
            self._wake.clear()
            pause = await self._once()
            await self._sleep(pause)
        self._log.info("service.stopped")

    async def _once(self) -> timedelta:
        if await attempted(self.round, self._log):
            self._failures = 0
            return self.every
        self._failures += 1
        return min(LONGEST_PAUSE, timedelta(seconds=0.25 * 2 ** min(self._failures, 8)))

    async def _sleep(self, pause: timedelta) -> None:
        if pause <= timedelta(0):
            return
        try:
            async with asyncio.timeout(pause.total_seconds()):
                await self._wake.wait()
        except TimeoutError:
            return

    def wake(self) -> None:
        """Begin the next round now."""
        self._wake.set()

    def stop(self) -> None:
        """End after the round that is under way."""
        self._stopping = True
        self._wake.set()


async def attempted(round_: Callable[[], Awaitable[object]], log: Any) -> bool:
    """Run one round of a loop; False when it failed, which is logged and must not end the loop."""
    try:
        await round_()
    except Exception as error:  # a loop must outlive any single failure; its caller paces the next round
        log.warning("service.failed", error=str(error), kind=type(error).__name__)
        return False
    return True


async def ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: a pool that hands out a connection at that moment swallows a cancellation."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1)


@contextmanager
def stop_signals(on_signal: Callable[[], None]) -> Iterator[None]:
    """Call `on_signal` for SIGTERM and SIGINT while the block runs, each time one arrives."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)  # which leaves the default, not what was there
            signal.signal(number, handler)
