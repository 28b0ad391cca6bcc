"""Zones: after an upgrade of the zone data every task is looked at once, whether its instants have moved.

The tick looks at those that come due first; here are the others, in small transactions beside the ticks.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from uuid import UUID

from engine import db, telemetry
from engine.db import Connection, Pool, Row
from engine.schedule import tzdata_version
from engine.store import replanning

AT_ONCE = 200
"""Tasks per transaction: some 20 ms in which no tick begins."""
FIRST = UUID(int=0)


async def renew(pool: Pool, stop: asyncio.Event) -> None:
    """One round: replan what was planned with older zone data, until `stop`. Any number of schedulers may do it."""
    seen, moved, last = 0, 0, FIRST
    while not stop.is_set():
        async with db.transaction(pool) as conn:
            rows, gone = await renew_some(conn, last)
        if not rows:
            break
        seen, moved, last = seen + len(rows), moved + gone, rows[-1]["id"]
    if seen:
        log = telemetry.logger("scheduler.zones")
        log.info("schedules.replanned", tasks=seen, moved=moved, tzdata=tzdata_version())


async def renew_some(
    conn: Connection, after: UUID, *, now: datetime | None = None, limit: int = AT_ONCE
) -> tuple[list[Row], int]:
    """Look at the next stale tasks after that id; them, and how many of them moved."""
    values = {"after": after, "now": now, "limit": limit, "tzdata_version": tzdata_version()}
    rows = await db.fetch(conn, "lock_stale_tasks", values)
    return rows, len(await replanning.replan(conn, rows)) if rows else 0
