"""The watch over failures: tasks whose runs have just failed are paused where they ask for it.

Beside the settler and not within it: a pause may wait for the task's row, and settlements must not.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

from engine import db
from engine.db import Pool
from engine.store import failures


class FailureWatch:
    """Gathers tasks with `note`; `check` is called as a service, and looks at all that have gathered."""

    def __init__(self, pool: Pool, actor: str) -> None:
        self.pool = pool
        self.actor = actor
        self._noted: set[UUID] = set()
        self._arrived = asyncio.Event()

    def note(self, task_id: UUID) -> None:
        """A run of this task has failed for good."""
        self._noted.add(task_id)
        self._arrived.set()

    async def check(self) -> None:
        """One round: wait for failures, then look. What could not be looked at stays for the next round."""
        await self._arrived.wait()
        await self.finish()

    async def finish(self) -> None:
        """Look at what has gathered, now."""
        noted, self._noted = self._noted, set()
        self._arrived.clear()
        try:
            if noted:
                async with db.connection(self.pool) as conn:
                    await failures.pause_failing(conn, noted, self.actor)
            noted = set()
        finally:
            for task_id in noted:  # those of a round that failed
                self.note(task_id)
