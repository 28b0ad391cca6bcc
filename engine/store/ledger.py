"""The ledger of a task, and its timetable: what has become of its instants, and what is to come.

Whoever changes a task's schedule or status closes the ledger up to that moment first: what lies ahead is
taken back, what has passed is written down with its reason. Writers hold the task's row lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, or_, select

from engine import catchup, db
from engine.catchup import Range
from engine.db import Connection, Row
from engine.errors import ValidationFailed
from engine.pipeline import ScheduleSpec
from engine.pipeline.definition import TIMING_OPTIONS
from engine.schedule import Schedule, default_start, parse_schedule, restore_schedule
from engine.store import leases
from engine.store.tables import occurrence

GRACE = timedelta(seconds=30)
UNREADABLE = (ValidationFailed, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What comes of planning a stored task that nobody checked: SQL wrote it, or an older version did."""


def schedule_of(spec: ScheduleSpec, now: datetime, *, anchor: datetime | None = None) -> Schedule:
    """The schedule that a definition states, anchored: at its own `start`, else at the stored one, else at `now`
    or the full hour or minute that its rule means.

    Raises ValidationFailed, pointers into a v1 definition: what fires from some anchor may not from this one.
    """
    start = datetime.fromisoformat(spec.start) if spec.start else anchor
    try:
        if start is None and spec.kind in ("rrule", "every", "condition"):
            start = default_start(spec.kind, spec.expr, spec.timezone, now)
        return parse_schedule(spec.kind, spec.expr, spec.timezone, start, _timing(spec.options))
    except ValidationFailed as error:
        placed = [replace(each, pointer=spec.place(each.pointer)) for each in error.errors]
        raise ValidationFailed(error.message, errors=placed) from None


def schedule_from(row: Row) -> Schedule:
    """The schedule of a stored task."""
    return restore_schedule(
        row["schedule_kind"],
        row["schedule_expr"],
        row["timezone"],
        row["schedule_start"],
        _timing(row["schedule_options"]),
    )


def _timing(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that decide instants; the others (catch-up, filter, probe) belong to whoever acts on them."""
    return {name: options[name] for name in TIMING_OPTIONS if name in options}


async def close(conn: Connection, current: Row, now: datetime) -> list[datetime]:
    """Settle a task's ledger up to `now` and take back what lies ahead, before its schedule or status changes.

    Answers the instants after `now` that a worker had begun when the change came; they stay.
    """
    await leases.withdraw(conn, current["id"], now=now)
    since = current["updated_at"] if current["status"] == "paused" else now
    begun = await _begun(conn, current["id"], since)
    try:
        schedule = schedule_from(current)
    except ValidationFailed:
        return begun  # what nobody can read has no instants, and a new definition is how it is mended
    end = now - GRACE if schedule.kind == "once" else now  # a `once` a moment ago is still meant
    await _cut_ranges(conn, current["id"], schedule, now)
    if current["status"] == "paused":
        reason = f"paused: {current['status_reason']}" if current["status_reason"] else "the task was paused"
        await add_ranges(
            conn, current["id"], *catchup.gaps(schedule, since, end, begun, "suppressed", reason)
        )
    elif current["next_run"] is not None:
        late = "the task was changed before a scheduler came to it"
        await add_ranges(
            conn,
            current["id"],
            catchup.span(schedule, current["next_run"], end + catchup.TICK, "missed", late),
        )
    return begun


async def _begun(conn: Connection, task_id: UUID, since: datetime) -> list[datetime]:
    """The instants after `since` that were seen to: begun, or skipped because zone data moved here what had run."""
    columns = occurrence.c
    seen_to = or_(columns.run_id.is_not(None), columns.disposition == "skipped")
    statement = select(columns.scheduled_for).where(
        columns.task_id == task_id, columns.scheduled_for > since, seen_to
    )
    return [row["scheduled_for"] for row in await db.select(conn, statement.order_by(columns.scheduled_for))]


async def _cut_ranges(conn: Connection, task_id: UUID, schedule: Schedule, now: datetime) -> None:
    """Take back the part of a snooze that lies ahead: the change that follows plans those instants anew.

    Invariant: a line `skipped` stays. Ahead there is one only where an instant that had run was moved (`replanning`),
    and without it what has run at the old time would run again at the new one.
    """
    columns = occurrence.c
    ahead = func.coalesce(columns.last_for, columns.scheduled_for) > now
    statement = delete(occurrence).where(
        columns.task_id == task_id, columns.run_id.is_(None), columns.disposition != "skipped", ahead
    )
    for row in await db.select(conn, statement.returning(occurrence)):
        left = catchup.span(
            schedule, row["scheduled_for"], now + catchup.TICK, row["disposition"], row["reason"]
        )
        await add_ranges(conn, task_id, left)


async def add_ranges(conn: Connection, task_id: UUID, *ranges: Range | None) -> None:
    """Write instants of one task that will not run into the ledger."""
    await write_ranges(conn, [(task_id, one) for one in ranges if one is not None])


async def write_ranges(conn: Connection, ranges: Sequence[tuple[UUID, Range]]) -> None:
    """Write instants of many tasks that will not run into the ledger, in one statement."""
    rows = [
        {
            "task_id": task_id,
            "first_for": one.first,
            "last_for": one.last,
            "count": one.count,
            "disposition": one.disposition,
            "reason": one.reason,
        }
        for task_id, one in ranges
    ]
    if rows:
        await db.execute(conn, "insert_ranges", db.placeholders(rows, *rows[0]))


async def planned(conn: Connection, task_id: UUID, now: datetime) -> list[datetime]:
    """The instants after `now` that are in the queue already, in order; `next_run` comes after them."""
    columns = occurrence.c
    statement = select(columns.scheduled_for).where(
        columns.task_id == task_id, columns.disposition == "scheduled", columns.scheduled_for > now
    )
    return [row["scheduled_for"] for row in await db.select(conn, statement.order_by(columns.scheduled_for))]


async def snoozed(conn: Connection, task_id: UUID, now: datetime) -> Row | None:
    """The range of instants that is suppressed beyond `now`: {scheduled_for, last_for, reason}."""
    columns = occurrence.c
    ahead = func.coalesce(columns.last_for, columns.scheduled_for) > now
    statement = select(columns.scheduled_for, columns.last_for, columns.reason).where(
        columns.task_id == task_id, columns.run_id.is_(None), columns.disposition == "suppressed", ahead
    )
    return next(iter(await db.select(conn, statement.order_by(columns.scheduled_for.desc()))), None)
