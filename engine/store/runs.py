"""Runs: how one is asked for, and the history as people read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Column, Float, MetaData, Select, Table, cast, func, select, union_all

from engine import db
from engine.db import Connection, Row
from engine.errors import Conflict, NotFound
from engine.store.tables import runs_parts, runs_view, step_run, task_run

_steps_columns = tuple(Column(column.name, column.type) for column in step_run.columns)
steps_view = Table("steps", MetaData(schema="duework"), *_steps_columns)


@dataclass(frozen=True, slots=True)
class Request:
    """Work that no schedule named. `params` and `event` must have passed the gate; `run_at` None means now."""

    task_id: UUID
    trigger: str
    params: dict[str, Any] | None = None
    event: dict[str, Any] | None = None
    run_at: datetime | None = None
    scheduled_for: datetime | None = None
    expires_at: datetime | None = None
    priority: int | None = None
    parent_run_id: UUID | None = None
    created_by: UUID | None = None


async def enqueue(conn: Connection, request: Request, *, now: datetime | None = None) -> Row:
    """Queue one run and wake the workers at commit; the row has run_id, run_at, priority, params."""
    row = await db.fetch_one(conn, "insert_due_work", _values(request, now))
    if row is None:
        raise NotFound(f"there is no task {request.task_id}")
    await db.fetch(conn, "notify_work")
    return row


async def enqueue_each(conn: Connection, request: Request, instants: Sequence[datetime]) -> list[Row]:
    """Queue a run that repeats the past for each of `instants`: rows as of `enqueue`, in their order.

    They may be leased one after the other, in that order.
    """
    values = _values(request, None) | {"instants": list(instants)}
    rows = await db.fetch(conn, "insert_due_work", values)
    if rows:
        await db.fetch(conn, "notify_work")
    return sorted(rows, key=lambda row: row["run_at"])


def _values(request: Request, now: datetime | None) -> Row:
    return {
        "task_id": request.task_id,
        "trigger": request.trigger,
        "params": None if request.params is None else Jsonb(request.params),
        "event": None if request.event is None else Jsonb(request.event),
        "instants": [request.scheduled_for],
        "run_at": request.run_at,
        "expires_at": request.expires_at,
        "priority": request.priority,
        "parent_run_id": request.parent_run_id,
        "created_by": request.created_by,
        "now": now,
    }


async def enqueue_once(conn: Connection, request: Request, key: str) -> UUID:
    """Queue a run for a step's idempotency key; the same key answers with the same run_id, for a day."""
    slot = {"agent_id": request.parent_run_id, "key": key}
    known = await db.fetch_one(conn, "find_key", slot)
    if known and known["body"] is not None:
        return UUID(known["body"]["run_id"])
    row = await enqueue(conn, request)
    answer = {"request": b"", "status": 200, "headers": None, "body": Jsonb({"run_id": str(row["run_id"])})}
    if await db.fetch_one(conn, "insert_key", slot | answer) is None:
        raise Conflict(f"another worker is executing step {key}")
    run_id: UUID = row["run_id"]
    return run_id


async def get(conn: Connection, run_id: UUID) -> Row:
    """One run as `duework.runs` has it, with `attempts` and `steps`. Raises NotFound."""
    rows = await db.select(conn, select(runs_view).where(runs_view.c.run_id == run_id))
    if not rows:
        raise NotFound(f"there is no run {run_id}; its history may have been dropped by retention")
    attempts = select(task_run).where(task_run.c.run_id == run_id).order_by(task_run.c.attempt)
    columns = steps_view.c
    steps = select(steps_view).where(columns.run_id == run_id)
    steps = steps.order_by(columns.attempt, columns.position, columns.item)
    return rows[0] | {"attempts": await db.select(conn, attempts), "steps": await db.select(conn, steps)}


async def find(conn: Connection, run_id: UUID) -> Row:
    """One run as `duework.runs` has it, without its attempts and steps. Raises NotFound."""
    rows = await db.select(conn, select(runs_view).where(runs_view.c.run_id == run_id))
    if not rows:
        raise NotFound(f"there is no run {run_id}; its history may have been dropped by retention")
    return rows[0]


async def page(
    conn: Connection,
    *,
    filters: Mapping[str, Any],
    before: UUID | None = None,
    offset: int = 0,
    limit: int = 50,
) -> list[Row]:
    """Runs, newest first by run_id (version 7, so by acceptance).

    `filters`: task_id, task, status, success, trigger, parent_run_id, since, until (by started_at, or
    scheduled_for while it has not started).
    """
    newest = [_newest(part, filters, before, offset + limit) for part in runs_parts]
    merged = union_all(*newest).subquery()
    statement = select(merged).order_by(merged.c.run_id.desc()).offset(offset).limit(limit)
    return await db.select(conn, statement)


def _newest(part: Table, filters: Mapping[str, Any], before: UUID | None, limit: int) -> Select[Any]:
    """The newest of one part of `duework.runs`, by its own index."""
    columns = part.c
    statement = select(part).order_by(columns.run_id.desc()).limit(limit)
    for name in ("task_id", "task", "status", "success", "trigger", "parent_run_id"):
        if filters.get(name) is not None:
            statement = statement.where(columns[name] == filters[name])
    instant = func.coalesce(columns.started_at, columns.finished_at, columns.scheduled_for)
    if filters.get("since") is not None:
        statement = statement.where(instant >= filters["since"])
    if filters.get("until") is not None:
        statement = statement.where(instant < filters["until"])
    return statement if before is None else statement.where(columns.run_id < before)


async def latest(conn: Connection, task_id: UUID) -> Row | None:
    """The newest run of a task; None when it has never had one."""
    rows = await page(conn, filters={"task_id": task_id}, limit=1)
    return rows[0] if rows else None


async def stats(conn: Connection, *, task_id: UUID | None = None, since: datetime) -> Row:
    """{total, succeeded, failed, success_rate, average_ms, p95_ms, longest_ms} of finished runs since then."""
    columns = task_run.c
    succeeded = func.count().filter(columns.success)
    statement = select(
        func.count().label("total"),
        succeeded.label("succeeded"),
        func.count().filter(~columns.success).label("failed"),
        (cast(succeeded, Float) / func.nullif(func.count(), 0)).label("success_rate"),
        func.avg(columns.duration_ms).label("average_ms"),
        func.percentile_cont(0.95).within_group(columns.duration_ms).label("p95_ms"),
        func.max(columns.duration_ms).label("longest_ms"),
    ).where(columns.final, columns.finished_at >= since)
    if task_id is not None:
        statement = statement.where(columns.task_id == task_id)
    return (await db.select(conn, statement))[0]


async def final_attempt(conn: Connection, run_id: UUID) -> Row:
    """The attempt that ended a run: what a retry starts from. Raises NotFound, or Conflict while it is live."""
    run = await find(conn, run_id)
    statement = select(task_run).where(task_run.c.run_id == run_id, task_run.c.final)
    rows = await db.select(conn, statement)
    if not rows:
        raise Conflict(f"run {run_id} is {run['status']}; only a finished run can be retried")
    return rows[0]


STATS_WINDOW = timedelta(days=30)
"""How far back statistics look when the caller does not say."""
