"""The supervisor: N worker processes on one host, restarted when they crash, drained together.

SIGTERM and SIGINT are passed on once as SIGTERM; a second one kills. A child that ends by itself with code 0
was drained by an operator and is not restarted; any other end is, after a pause that grows to half a minute.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from dataclasses import replace

from engine import telemetry
from engine.service import stop_signals
from engine.settings import Settings, child_environment
from workers import main as worker

LONGEST_PAUSE = 30.0
STABLE = 60.0
"""A child that lived this many seconds starts again with the shortest pause."""


def supervise(settings: Settings) -> int:
    """Run `settings.processes` workers until they are told to stop; the exit code for the command line."""
    if settings.processes <= 1:
        asyncio.run(worker.serve(settings))
        return 0
    return asyncio.run(Supervisor(settings).run())


class Supervisor:
    """Keeps the children of one host alive."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._environment = child_environment(replace(settings, processes=1))
        self._children: set[asyncio.subprocess.Process] = set()
        self._signals = 0
        self._stopping = asyncio.Event()
        self._log = telemetry.logger("workers.supervisor")

    async def run(self) -> int:
        """Start all children and wait for their end; 1 when any was killed by a second signal."""
        with stop_signals(self._signal):
            await asyncio.gather(*(self._keep(number) for number in range(self.settings.processes)))
        return 1 if self._signals > 1 else 0

    def _signal(self) -> None:
        self._signals += 1
        self._stopping.set()
        for child in self._children:
            child.send_signal(signal.SIGTERM if self._signals == 1 else signal.SIGKILL)

    async def _keep(self, number: int) -> None:
        pause = 0.5
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._child()
            self._log.info("process.exited", number=number, code=code)
            if code == 0 or self._stopping.is_set():
                return
            pause = 0.5 if time.monotonic() - began > STABLE else min(pause * 2, LONGEST_PAUSE)
            try:
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _child(self) -> int:
        # -P: a folder named `workers` where the user stands is not ours. Its own session, so that a Ctrl-C at the
        # terminal reaches it once: through us.
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "workers.main", env=self._environment, start_new_session=True
        )
        self._log.info("process.started", pid=child.pid)
        self._children.add(child)
        if self._stopping.is_set():  # the signal came while the child was being started
            child.send_signal(signal.SIGTERM)
        try:
            return await child.wait()
        finally:
            self._children.discard(child)
