"""Heartbeats of worker and scheduler processes, and the state of the queue that operators look at."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import select

from engine import db
from engine.db import Connection, Row
from engine.schedule import tzdata_version
from engine.store.tables import due_work, scheduler, task, worker


@dataclass(frozen=True, slots=True)
class Process:
    """Who a process is: an id that no other process ever has, and where to find it."""

    id: str
    host: str
    pid: int
    version: str

    @classmethod
    def here(cls, role: str) -> Process:
        """This process; the host's name alone would be shared by all workers on it."""
        host, pid = socket.gethostname(), os.getpid()
        return cls(f"{role}-{host}-{pid}-{uuid.uuid4().hex[:8]}", host, pid, version("duework"))


async def beat(
    conn: Connection, process: Process, *, slots: int, busy: int, labels: dict[str, Any], draining: bool
) -> bool:
    """Say that this worker lives; True when somebody asked it to drain."""
    values = asdict(process) | {"slots": slots, "busy": busy, "labels": Jsonb(labels), "draining": draining}
    row = await db.fetch_one(conn, "beat_worker", values)
    return bool(row and row["draining"])


async def forget(conn: Connection, process_id: str) -> None:
    """Remove this worker's row, and rows of workers unheard of for a day."""
    await db.execute(conn, "forget_workers", {"id": process_id})


async def beat_scheduler(conn: Connection, process: Process, late_after: timedelta) -> None:
    """Say that this scheduler ticked, and that it is late when it has not ticked again after so long."""
    more = {"tzdata_version": tzdata_version(), "late_after": late_after}
    await db.execute(conn, "beat_scheduler", asdict(process) | more)


async def forget_scheduler(conn: Connection, process_id: str) -> None:
    """Remove this scheduler's row, and rows of schedulers unheard of for a day."""
    await db.execute(conn, "forget_schedulers", {"id": process_id})


async def page(conn: Connection) -> list[Row]:
    """All workers, the newest first."""
    return await db.select(conn, select(worker).order_by(worker.c.started_at.desc(), worker.c.id))


async def schedulers(conn: Connection) -> list[Row]:
    """All schedulers, the last to tick first."""
    return await db.select(conn, select(scheduler).order_by(scheduler.c.last_tick.desc(), scheduler.c.id))


async def queue(conn: Connection, *, limit: int = 50) -> list[Row]:
    """Work that is not settled, in the order in which it will be leased; what is under way comes first."""
    columns = due_work.c
    statement = select(
        columns.id.label("run_id"),
        columns.task_id,
        task.c.name.label("task"),
        *(columns[name] for name in ("trigger", "priority", "run_at", "expires_at", "attempt")),
        *(columns[name] for name in ("locked_by", "locked_until", "fence")),
    ).join(task, task.c.id == columns.task_id, isouter=True)
    order = (columns.locked_until.is_(None), columns.priority, columns.run_at, columns.id)
    return await db.select(conn, statement.order_by(*order).limit(limit))


async def queue_state(conn: Connection) -> Row:
    """{tick_age, tick_late_after, ticking, set_aside, workers, ready, oldest, leased}: ages as timedelta, None
    where there is nothing. `ticking`: some scheduler is not late, by its own word; `tick_late_after` is the word of
    the one that ticked last. `set_aside` counts active tasks that no tick could plan."""
    row = await db.fetch_one(conn, "queue_state")
    assert row is not None, "a select without FROM always has one row"
    return row
