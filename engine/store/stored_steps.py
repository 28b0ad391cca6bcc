"""What is stored of steps, read from the newest run back in bounded memory and short transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

from engine import db
from engine.db import Connection, Row

RUNS = 200
"""Runs of one page, which is one transaction: what it sees is pinned for no longer than it takes to judge them."""
ROWS = 20
"""Rows that are fetched together: a row may hold an input and an output of a megabyte each."""


async def walk(
    conn: Connection, since: datetime, *, task_id: UUID | None = None, runs: int = RUNS
) -> AsyncIterator[Row]:
    """Rows of {run_id, ended_at, task_id, task_version, task, step, item, tool, status, input, output, verdict}.

    Of runs that have ended since then, newest first; `step` is None for one without steps. Transactions of the
    connection are read-only from then on. A run that ends meanwhile may be missing; none comes twice.
    """
    await conn.set_read_only(True)
    place: tuple[datetime | None, UUID | None] = None, None
    more = True
    while more:
        seen: set[UUID] = set()
        values = {
            "since": since,
            "task_id": task_id,
            "runs": runs,
            "before_at": place[0],
            "before_run": place[1],
        }
        async with conn.transaction(), conn.cursor("stored_steps") as cursor:
            cursor.itersize = ROWS
            await cursor.execute(db.query("list_stored_steps"), values)
            async for row in cursor:
                seen.add(row["run_id"])
                place = row["ended_at"], row["run_id"]
                yield row
        more = len(seen) == runs
