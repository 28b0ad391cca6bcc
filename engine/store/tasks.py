"""Tasks: definitions, their versions, and the state that people change (pause, resume, snooze, cancel).

Every change that moves a task's instants withdraws its unstarted future rows and computes `next_run` anew in
the same transaction, with the row locked FOR UPDATE, so the tick sees the state before or after, never half.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Select, func, insert, or_, select, tuple_, update

from engine import catchup, db
from engine.db import Connection, Row
from engine.errors import Conflict, NotFound, Problem, Stale, ValidationFailed
from engine.pipeline import Definition
from engine.pipeline.keys import scheduled_key, shared_key
from engine.schedule import Schedule, tzdata_version
from engine.store import leases, ledger
from engine.store.tables import due_work, task, task_version

UNKNOWN = {"condition_met": None, "condition_at": None}
"""The answer of a condition that was never asked."""


async def get(conn: Connection, ref: str | UUID, *, lock: bool = False) -> Row:
    """The task with this id or name, locked for a change if asked. Raises NotFound."""
    statement = select(task).where(_matches(ref))
    rows = await db.select(conn, statement.with_for_update() if lock else statement)
    if not rows:
        raise NotFound(f"there is no task {str(ref)!r}; `duework task list` shows those there are")
    return rows[0]


async def page(
    conn: Connection,
    *,
    filters: Mapping[str, Any],
    after: tuple[datetime, UUID] | None = None,
    offset: int = 0,
    limit: int = 50,
) -> list[Row]:
    """Tasks, oldest first. `filters`: status, kind, label ("k=v"), created_by, set, q (in name or title)."""
    statement = _filtered(select(task), filters).order_by(task.c.created_at, task.c.id)
    if after is not None:
        statement = statement.where(tuple_(task.c.created_at, task.c.id) > tuple_(*after))
    return await db.select(conn, statement.offset(offset).limit(limit))


async def create(
    conn: Connection,
    definition: Definition,
    name: str,
    now: datetime,
    *,
    author: UUID | None = None,
    set_name: str | None = None,
) -> Row:
    """Insert a task and its first version. Raises Conflict when the name is taken."""
    schedule = ledger.schedule_of(definition.schedule, now)
    values = _columns(definition, schedule, name) | {
        "name": name,
        "next_run": catchup.first_run(schedule, now, ledger.GRACE),
        "created_by": author,
        "set_name": set_name,
    }
    if await db.select(conn, select(task.c.id).where(task.c.name == name)):
        raise Conflict(f"a task named {name!r} exists; choose another name, or PATCH that one")
    rows = await db.select(conn, insert(task).values(values).returning(task))
    await ledger.add_ranges(conn, rows[0]["id"], catchup.passed(schedule, now, ledger.GRACE))
    await _add_version(conn, rows[0], definition, author)
    return rows[0]


async def change(
    conn: Connection,
    current: Row,
    definition: Definition,
    now: datetime,
    *,
    author: UUID | None = None,
    set_name: str | None = None,
) -> Row:
    """Give a task (locked by `get`) a new version; its unstarted future rows are withdrawn and planned anew.

    A definition without `start` keeps the anchor that was stored, so re-applying never re-anchors.
    """
    schedule = ledger.schedule_of(definition.schedule, now, anchor=current["schedule_start"])
    begun = await ledger.close(conn, current, now)
    active = current["status"] == "active"
    values = _columns(definition, schedule, current["name"]) | {
        "version": current["version"] + 1,
        "next_run": catchup.first_run(schedule, now, ledger.GRACE, begun) if active else None,
        "set_name": set_name or current["set_name"],
        "schedule_error": None,
        "updated_at": now,
    }
    if _asked(current["schedule_options"]) != _asked(definition.schedule.options):
        values |= UNKNOWN
    changed = await _update(conn, current["id"], values)
    await ledger.add_ranges(conn, current["id"], catchup.passed(schedule, now, ledger.GRACE))
    await _add_version(conn, changed, definition, author)
    return changed


async def pause(conn: Connection, ref: str | UUID, now: datetime, reason: str | None = None) -> Row:
    """Stop the schedule; run-now still works. Idempotent. Raises Conflict for a canceled task."""
    current = await _changeable(conn, ref)
    if current["status"] == "paused":
        return current
    await ledger.close(conn, current, now)
    return await _set_status(conn, current, "paused", now, reason)


async def resume(conn: Connection, ref: str | UUID, now: datetime) -> Row:
    """Start the schedule again; the instants of the pause go into the ledger as suppressed. Idempotent."""
    current = await _changeable(conn, ref)
    if current["status"] == "active":
        return current
    begun = await ledger.close(conn, current, now)
    upcoming = catchup.first_run(ledger.schedule_from(current), now, ledger.GRACE, begun)
    return await _set_status(conn, current, "active", now, None, next_run=upcoming)


async def cancel(conn: Connection, ref: str | UUID, now: datetime, reason: str | None = None) -> Row:
    """End a task for good; history stays, runs under way finish, what nobody has begun is canceled. Idempotent."""
    current = await get(conn, ref, lock=True)
    if current["status"] == "canceled":
        return current
    await ledger.close(conn, current, now)
    waiting = select(due_work.c.id).where(due_work.c.task_id == current["id"], due_work.c.fence.is_(None))
    run_ids = [row["id"] for row in await db.select(conn, waiting)]
    await leases.cancel_unstarted(conn, run_ids, "the task was canceled before this run began", now=now)
    return await _set_status(conn, current, "canceled", now, reason)


async def revive(conn: Connection, current: Row, now: datetime) -> Row:
    """Make a canceled task (locked by `get`) active again; the `change` that follows plans its instants."""
    return await _set_status(conn, current, "active", now, None, **UNKNOWN)


async def snooze(
    conn: Connection, ref: str | UUID, now: datetime, until: datetime, reason: str | None
) -> Row:
    """Skip every instant before `until`; they go into the ledger as suppressed."""
    current = await _changeable(conn, ref)
    if current["status"] != "active":
        raise Conflict(f"task {current['name']!r} is {current['status']}; resume it before snoozing it")
    if until <= now:
        raise ValidationFailed(
            "the task can only be snoozed into the future",
            errors=[Problem("in_the_past", f"{until.isoformat()} is not after {now.isoformat()}", "/until")],
        )
    begun = await ledger.close(conn, current, now)
    schedule = ledger.schedule_from(current)
    text = f"snoozed: {reason}" if reason else "the task was snoozed"
    ranges = catchup.gaps(schedule, now, until - catchup.TICK, begun, "suppressed", text)
    await ledger.add_ranges(conn, current["id"], *ranges)
    upcoming = catchup.first_run(schedule, until - catchup.TICK, timedelta(0), begun)
    planned = {"next_run": upcoming, "tzdata_version": tzdata_version(), "updated_at": now}
    return await _update(conn, current["id"], planned)


async def versions(conn: Connection, task_id: UUID) -> list[Row]:
    """Every definition the task ever had, the newest first."""
    statement = select(task_version).where(task_version.c.task_id == task_id)
    return await db.select(conn, statement.order_by(task_version.c.version.desc()))


async def definition(conn: Connection, task_id: UUID, version: int) -> dict[str, Any]:
    """The normalised document of one version. Raises NotFound."""
    statement = select(task_version.c.definition).where(
        task_version.c.task_id == task_id, task_version.c.version == version
    )
    rows = await db.select(conn, statement)
    if not rows:
        raise NotFound(f"task {task_id} has no version {version}")
    document: dict[str, Any] = rows[0]["definition"]
    return document


def _columns(definition: Definition, schedule: Schedule, name: str) -> dict[str, Any]:
    """The columns of `task` that a definition decides."""
    return {
        "title": definition.title,
        "description": definition.description or "",
        "labels": definition.labels,
        "schedule_kind": schedule.kind,
        "schedule_expr": definition.schedule.expr,
        "timezone": definition.schedule.timezone,
        "schedule_start": _wall(schedule),
        "schedule_options": definition.schedule.options,
        "payload": {
            "pipeline": definition.document["steps"],
            "params": definition.document.get("params", {}),
        },
        "priority": definition.priority,
        "dedupe_key": definition.dedupe_key,
        "dedupe_window": definition.dedupe_window,
        "dedupe_scheduled": scheduled_key(definition),
        "pause_after_failures": definition.pause_after_failures,
        "max_retries": definition.retry.max_attempts - 1,
        "backoff_strategy": definition.retry.backoff,
        "concurrency_key": shared_key(definition, name),
        "concurrency": definition.concurrency,
        "tzdata_version": tzdata_version(),
    }


def _asked(options: Mapping[str, Any]) -> tuple[Any, Any]:
    """What a condition asks; its last answer holds for as long as that is the same."""
    return options.get("probe"), options.get("when")


def _wall(schedule: Schedule) -> datetime | None:
    if schedule.start is None or schedule.start.tzinfo is None:
        return schedule.start
    return schedule.start.astimezone(ZoneInfo(schedule.timezone)).replace(tzinfo=None)


def _matches(ref: str | UUID) -> Any:
    try:
        return task.c.id == (ref if isinstance(ref, UUID) else UUID(ref))
    except ValueError:
        return task.c.name == ref


def _filtered(statement: Select[Any], filters: Mapping[str, Any]) -> Select[Any]:
    for name, column in (("status", task.c.status), ("kind", task.c.schedule_kind), ("set", task.c.set_name)):
        if filters.get(name):
            statement = statement.where(column == filters[name])
    if filters.get("created_by"):
        statement = statement.where(task.c.created_by == filters["created_by"])
    if filters.get("label"):
        key, _, value = filters["label"].partition("=")
        statement = statement.where(task.c.labels.contains({key: value}))
    if filters.get("q"):
        text = filters["q"].lower()
        found = (func.strpos(func.lower(column), text) > 0 for column in (task.c.name, task.c.title))
        statement = statement.where(or_(*found))
    return statement


async def _changeable(conn: Connection, ref: str | UUID) -> Row:
    current = await get(conn, ref, lock=True)
    if current["status"] == "canceled":
        raise Conflict(f"task {current['name']!r} is canceled; apply its definition under a new name")
    return current


def require_version(current: Row, expected: int | None) -> None:
    """Raises Stale when If-Match named another version than the stored one."""
    if expected is not None and expected != current["version"]:
        raise Stale(
            f"task {current['name']!r} is at version {current['version']}, not {expected}; fetch it again"
        )


async def _set_status(
    conn: Connection, current: Row, status: str, now: datetime, reason: str | None, **more: Any
) -> Row:
    values = {"status": status, "status_reason": reason, "status_changed_at": now, "updated_at": now}
    planned = {"next_run": None, "schedule_error": None, "tzdata_version": tzdata_version()}
    return await _update(conn, current["id"], planned | values | more)


async def _update(conn: Connection, task_id: UUID, values: Mapping[str, Any]) -> Row:
    return (await db.select(conn, update(task).where(task.c.id == task_id).values(values).returning(task)))[0]


async def _add_version(conn: Connection, row: Row, definition: Definition, author: UUID | None) -> None:
    values = {
        "task_id": row["id"],
        "version": row["version"],
        "definition": definition.document,
        "author": author,
    }
    await db.select(conn, insert(task_version).values(values))
