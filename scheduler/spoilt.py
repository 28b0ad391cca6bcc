"""When a batch fails on what a row holds: it is halved until the row stands alone, which is then set aside, visibly.

Definitions are checked when they are stored, and CHECKs of the table refuse most of what SQL can spoil. For the rest
(a value that no client can read, a trigger that refuses a row) one task must not keep all others from running.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

import psycopg

from engine import db, telemetry
from engine.db import Pool, Row
from engine.settings import Settings
from engine.store.ledger import UNREADABLE

SPOILT = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.RaiseException,
    *UNREADABLE,
)
"""What is the fault of a row. An outage, a lock or a timeout is not, nor is a statement that is wrong for all."""


async def apart(
    pool: Pool, settings: Settings, tick: Callable[[Sequence[UUID]], Awaitable[object]], now: datetime | None
) -> None:
    """Tick over the next batch in ever smaller parts, each in a transaction of its own; `tick` takes ids.

    Where none of several tasks can be planned it is hardly their own fault: the error is raised, and all stay.
    """
    values = {"now": now, "horizon": settings.horizon, "limit": settings.tick_batch}
    async with db.connection(pool) as conn:
        due = await db.fetch(conn, "list_due_tasks", values)
    waiting, failed = [due], list[tuple[Row, Exception]]()
    while waiting:
        part = waiting.pop()
        try:
            await tick([row["id"] for row in part])
        except SPOILT as error:
            if len(part) == 1:
                failed.append((part[0], error))
            else:
                waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
    if len(failed) == len(due) > 1:
        raise failed[0][1]
    for row, fault in failed:
        await _set_aside(pool, row, fault)


async def _set_aside(pool: Pool, row: Row, error: Exception) -> None:
    told = f"{type(error).__name__}: {error}"
    async with db.connection(pool) as conn:
        found = await db.fetch_one(conn, "set_task_aside", row | {"error": told.replace("\0", "")})
    if found:
        log = telemetry.logger("scheduler.tick")
        log.error("task.unschedulable", task_id=str(row["id"]), task=found["name"], error=told)
