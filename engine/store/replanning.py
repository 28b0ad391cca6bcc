"""Replanning: newer zone data moves instants that were planned with older.

Every task says with which release of the zone data it was planned. Whoever comes to one with a newer release
looks whether what is planned still holds; where it does not, unstarted rows are taken back and `next_run` becomes
what has taken the first one's place. What has started stays. Callers hold the tasks' row locks.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from engine import catchup, db
from engine.catchup import Range
from engine.db import Connection, Row
from engine.schedule import Schedule, tzdata_version
from engine.store import leases, ledger
from engine.store.tables import occurrence, task


def is_stale(row: Row) -> bool:
    """Whether a task was planned with an older release than ours; releases are in text order ("2025c", "2026a")."""
    return (row["tzdata_version"] or "") < tzdata_version()


async def replan(conn: Connection, rows: Sequence[Row]) -> dict[UUID, datetime | None]:
    """Bring locked tasks ({id, schedule…, next_run, updated_at, at}) up to our zone data; `next_run` of those moved."""
    planned = await _planned(conn, rows)
    moved: dict[UUID, datetime | None] = {}
    for row in rows:
        try:
            schedule = ledger.schedule_from(row)
        except ledger.UNREADABLE:
            continue  # the tick sets it aside, loudly, when it comes due
        if not _holds(schedule, [*planned[row["id"]], row["next_run"]], row["at"]):
            moved[row["id"]] = await _anew(conn, row, schedule, planned[row["id"]])
    upcoming = {row["id"]: row["next_run"] for row in rows} | moved
    told = [{"task_id": str(key), "next_run": value and value.isoformat()} for key, value in upcoming.items()]
    await db.execute(conn, "advance_tasks", {"rows": json.dumps(told), "tzdata_version": tzdata_version()})
    return moved


async def apart(conn: Connection) -> tuple[int, int]:
    """How many active tasks were planned with older zone data than ours, and how many with newer."""
    planned, ours = func.coalesce(task.c.tzdata_version, "").collate("C"), tzdata_version()
    older: Any = func.count().filter(planned < ours).label("older")
    newer: Any = func.count().filter(planned > ours).label("newer")
    counted = select(older, newer).where(task.c.status == "active", task.c.next_run.is_not(None))
    row = (await db.select(conn, counted))[0]
    return row["older"], row["newer"]


async def _planned(conn: Connection, rows: Iterable[Row]) -> dict[UUID, list[datetime]]:
    """Of each task the instants after `at` that are in the queue, or begun."""
    columns, found = occurrence.c, defaultdict[UUID, list[datetime]](list)
    ids = {row["id"]: row["at"] for row in rows}
    statement = select(columns.task_id, columns.scheduled_for).where(
        columns.task_id.in_(ids),
        columns.disposition == "scheduled",
        columns.scheduled_for > min(ids.values()),
    )
    for row in await db.select(conn, statement):
        found[row["task_id"]].append(row["scheduled_for"])
    return found


def _holds(schedule: Schedule, instants: Sequence[datetime], at: datetime) -> bool:
    """Whether the schedule names all of these instants, and none before them that is still to come."""
    first = min(instants)
    upcoming = next(schedule.walk(min(at, first - catchup.TICK)), None)
    return upcoming == first and all(next(schedule.walk(one - catchup.TICK), None) == one for one in instants)


async def _anew(
    conn: Connection, row: Row, schedule: Schedule, planned: Sequence[datetime]
) -> datetime | None:
    """Take back what has not started; the new `next_run`."""
    await leases.withdraw(conn, row["id"], now=row["at"])
    left = set((await _planned(conn, [row]))[row["id"]])
    anchor = min([row["next_run"], *(one for one in planned if one not in left)])
    since = max(row["updated_at"], await _told(conn, row, schedule, anchor))
    return catchup.replanned(schedule, anchor, since, row["at"])


async def _told(conn: Connection, row: Row, schedule: Schedule, anchor: datetime) -> datetime:
    """Up to when the ledger is complete. An instant that ran before its new time came does not run again then."""
    columns = occurrence.c
    last = func.coalesce(columns.last_for, columns.scheduled_for).label("at")
    statement = select(last, columns.run_id, columns.disposition).where(
        columns.task_id == row["id"], columns.scheduled_for < anchor
    )
    found = await db.select(conn, statement.order_by(columns.scheduled_for.desc()).limit(1))
    if not found:
        return anchor - catchup.FARTHEST
    at: datetime = found[0]["at"]
    seen_to = found[0]["run_id"] or found[0]["disposition"] == "skipped"
    again = catchup.counterpart(schedule, at) if seen_to else None
    if again is None or again <= at:
        return at
    if again > row["at"]:
        reason = f"newer zone data moved it here when it had run at {at.isoformat()}"
        await ledger.add_ranges(conn, row["id"], Range(again, again, 1, "skipped", reason))
    return again
