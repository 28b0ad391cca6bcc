"""Allowances: false positives that people have marked, kept as digests and patterns, and the list as a process has it.

A process reads the list every LOOK_EVERY and believes what it read for FRESH_FOR, counted from before it asked: so a
mark counts within seconds, a revoked one is gone at the latest then, and where the list cannot be read nothing is
allowed. When a mark ends is the database's to say: it tells how much time is left, which is counted off here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select

from engine import db
from engine.db import Connection, Pool, Row
from engine.errors import Conflict, NotFound
from engine.reflex.allowing import Allowance, Allowed
from engine.reflex.digests import Match, Pardon
from engine.settings import Settings
from engine.store import gate_key
from engine.store.views import allowances_view

LOOK_EVERY = timedelta(seconds=2)
FRESH_FOR = timedelta(seconds=15)
MOST = 2_000
"""Marks that may stand at once: each finding is compared with them."""
LONGEST = timedelta(days=3653)
"""How far ahead a mark may end, if it ends."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark to be made: of `digest` or `pattern`; `ends` is when, or after how long, None never."""

    reason: str
    author: str
    digest: str | None = None
    pattern: str | None = None
    kind: str | None = None
    task_id: UUID | None = None
    ends: datetime | timedelta | None = None


class AllowList:
    """The marks that count in one process. `look` is called as a service; before its first, nothing is allowed."""

    def __init__(
        self, settings: Settings, pool: Pool, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self.pool = pool
        self._clock = clock
        self._key = b""
        self._allowed = Allowed()
        self._read_at = float("-inf")

    async def look(self) -> None:
        """Read the list. Raises StoreUnavailable; what was read before counts until it is too old."""
        async with db.connection(self.pool) as conn:
            await self.read(conn)

    async def read(self, conn: Connection) -> None:
        """Read the list on a connection that is at hand."""
        began = self._clock()
        if not self._key:
            self._key = await gate_key.load(conn, self.settings)
        marks = await standing(conn, began)
        if began >= self._read_at:
            self._allowed, self._read_at = Allowed(marks, self._key), began

    def pardon(self, task: UUID | str | None = None) -> Pardon:
        """What `judge` asks about each finding: for a task by its id or name, or for what belongs to none."""

        def pardoned(match: Match) -> bool:
            now = self._clock()
            fresh = now - self._read_at < FRESH_FOR.total_seconds()
            return fresh and self._allowed.pardons(match, task, now)

        return pardoned


async def standing(conn: Connection, at: float, *, now: datetime | None = None) -> list[Allowance]:
    """The marks that count; `at` is the reader's clock from before this was asked, in which their ends are told."""
    return [_allowance(row, at) for row in await db.fetch(conn, "find_allowances", {"now": now})]


async def add(conn: Connection, mark: Mark) -> Row:
    """Make a mark. Raises Conflict where MOST stand already."""
    at, lasts = (mark.ends, None) if isinstance(mark.ends, datetime) else (None, mark.ends)
    values: dict[str, Any] = {
        "task_id": mark.task_id,
        "kind": mark.kind,
        "digest": mark.digest,
        "pattern": mark.pattern,
    }
    values |= {"reason": mark.reason, "author": mark.author, "expires_at": at, "lasts": lasts, "most": MOST}
    made = await db.fetch_one(conn, "insert_allowance", values)
    if made is None:
        raise Conflict(f"{MOST} allowances stand already; revoke those that are no longer needed")
    return await get(conn, made["id"])


async def get(conn: Connection, ref: UUID) -> Row:
    """One mark as `duework.allowances` has it. Raises NotFound."""
    rows = await db.select(conn, select(allowances_view).where(allowances_view.c.id == ref))
    if not rows:
        raise NotFound(f"there is no allowance {ref}; `duework reflex allowed` shows those there are")
    return rows[0]


async def page(
    conn: Connection,
    *,
    status: str | None = None,
    task_id: UUID | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> list[Row]:
    """Marks, the newest first; `before` is the last that was seen."""
    columns = allowances_view.c
    statement = select(allowances_view).order_by(columns.id.desc()).limit(limit)
    if status is not None:
        statement = statement.where(columns.status == status)
    if task_id is not None:
        statement = statement.where(columns.task_id == task_id)
    if before is not None:
        statement = statement.where(columns.id < before)
    return await db.select(conn, statement)


async def revoke(conn: Connection, ref: UUID, by: str) -> bool:
    """Take a mark back; False when it was so already. Raises NotFound."""
    await get(conn, ref)
    return await db.fetch_one(conn, "revoke_allowance", {"id": ref, "by": by}) is not None


def _allowance(row: Row, at: float) -> Allowance:
    left = row["left"]
    until = None if left is None else at + left.total_seconds()
    tasks = () if row["task_id"] is None else (row["task_id"], row["task"])
    return Allowance(row["kind"], row["digest"], row["pattern"], tasks, until)
