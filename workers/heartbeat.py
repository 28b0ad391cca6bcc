"""The heartbeat: this process's row in `worker`, and the order to drain that may stand in it."""

from __future__ import annotations

import os
from collections.abc import Callable

from engine import db
from engine.db import Pool
from engine.store import workers
from workers.config import WorkerConfig
from workers.coordinator import Coordinator


class Heartbeat:
    """Says that the worker lives; calls `on_drain` when an operator, or the end of its parent, asks for it."""

    def __init__(
        self, config: WorkerConfig, pool: Pool, coordinator: Coordinator, on_drain: Callable[[], None]
    ) -> None:
        self.config = config
        self.pool = pool
        self.coordinator = coordinator
        self.on_drain = on_drain
        self._parent = os.getppid()

    async def beat(self) -> None:
        """One heartbeat."""
        # A worker whose supervisor was killed would otherwise live on without anyone to restart or stop it; looked
        # at first, because the database may be away as well.
        if os.getppid() != self._parent:
            self.on_drain()
        async with db.transaction(self.pool) as conn:
            asked = await workers.beat(
                conn,
                self.config.process,
                slots=self.config.concurrency,
                busy=self.coordinator.busy,
                labels=self.config.labels,
                draining=self.coordinator.draining,
            )
        if asked:
            self.on_drain()

    async def forget(self) -> None:
        """The process ends in good order: its row goes."""
        async with db.transaction(self.pool) as conn:
            await workers.forget(conn, self.config.process.id)
