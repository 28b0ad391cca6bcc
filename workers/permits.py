"""Permits: whether the author of a definition may still call its tools, asked whenever an attempt begins.

Scopes were checked when the definition was stored; what has been taken from its author since then counts here, within
TTL. An author who is no longer active holds nothing. Versions without an author were written by whoever owns the
database.
"""

from __future__ import annotations

import time
from uuid import UUID

from engine import db
from engine.db import Pool
from engine.errors import AuthorizationFailed
from engine.plan import Plan
from engine.store import agents
from engine.store.agents import Agent

TTL = 5.0
"""Seconds for which an answer counts."""
KEPT = 10_000
"""Answers that one process keeps."""


class Permits:
    """What authors may do, by (task, version)."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._known: dict[tuple[UUID, int], tuple[float, Agent | None]] = {}

    async def check(self, task_id: UUID, version: int, plan: Plan) -> None:
        """Raises AuthorizationFailed where the author lacks a scope of a tool that the plan calls."""
        if not plan.scopes:
            return
        key = (task_id, version)
        asked, author = self._known.get(key, (0.0, None))
        now = time.monotonic()
        if not asked or now - asked > TTL:
            async with db.connection(self.pool) as conn:
                author = await agents.author(conn, task_id, version)
            if len(self._known) >= KEPT:
                self._known.clear()
            self._known[key] = (now, author)
        missing = () if author is None else sorted(s for s in plan.scopes if not author.allows(s))
        if author is not None and missing:
            raise AuthorizationFailed(
                f"agent {author.name!r}, who wrote this version of the task, no longer holds the scope {missing[0]!r}; "
                "an admin can grant it, or somebody who holds it can apply the definition again",
                details={"scope": missing[0]},
            )
