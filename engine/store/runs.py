"""Runs: how one is asked for, and the history as people read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Column, Float, MetaData, Select, Table, cast, func, select, union_all

from engine import db, telemetry
from engine.db import Connection, Row
from engine.errors import Conflict, NotFound, ValidationFailed
from engine.pipeline.keys import concurrency_key, dedupe_key, own_key
from engine.store import dedupe, tasks, waits
from engine.store.dedupe import Claim
from engine.store.tables import step_run, task_run
from engine.store.views import quarantine_view, runs_parts, runs_view

_steps_columns = tuple(Column(column.name, column.type) for column in step_run.columns)
steps_view = Table("steps", MetaData(schema="duework"), *_steps_columns)


REPEATS = ("backfill", "retry")
"""Triggers that repeat the past on somebody's word: no dedupe key is asked."""


@dataclass(frozen=True, slots=True)
class Request:
    """Work that no schedule named. `params` and `event` must have passed the gate; `run_at` None means now.

    `run_id` is the id that was promised for the run; None makes one.
    """

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
    run_id: UUID | None = None


def accepted_at(run_id: UUID) -> datetime:
    """When a run was accepted: the milliseconds in its UUID version 7 (RFC 9562 section 5.7)."""
    return datetime.fromtimestamp((run_id.int >> 80) / 1000, UTC)


async def enqueue(
    conn: Connection, request: Request, *, keyed: bool = True, now: datetime | None = None
) -> Row:
    """Queue one run and wake the workers at commit; the row has run_id, run_at, priority, params.

    Where the task's dedupe key has let in another run that stands for this one, nothing is queued: the answer is
    that run as `duework.runs` has it, with `deduplicated` true. Raises ValidationFailed where that key or the
    concurrency key cannot be made of this request. Not `keyed`: the former is not asked, and the task's own limit
    stands in for the latter.
    """
    row = await _insert(conn, request, now, admitted=not keyed)
    return row | {"deduplicated": False} if row else await _enqueue_keyed(conn, request, now, keyed=keyed)


async def enqueue_each(conn: Connection, request: Request, instants: Sequence[datetime]) -> list[Row]:
    """Queue a run that repeats the past for each of `instants`: rows as of `enqueue`, in their order.

    They may be leased one after the other, in that order. Raises ValidationFailed where the concurrency key cannot
    be made of this request.
    """
    task = await tasks.get(conn, request.task_id)
    document = await tasks.definition(conn, task["id"], task["version"])
    key = concurrency_key(document, task["name"], request.trigger, request.params, request.event)
    values = _values(request, None, admitted=True, key=key) | {"instants": list(instants)}
    rows = await db.fetch(conn, "insert_due_work", values)
    if rows:
        await db.fetch(conn, "notify_work")
    return sorted(rows, key=lambda row: row["run_at"])


async def _insert(
    conn: Connection, request: Request, now: datetime | None, *, admitted: bool, key: str | None = None
) -> Row | None:
    row = await db.fetch_one(conn, "insert_due_work", _values(request, now, admitted=admitted, key=key))
    if row is not None:
        await db.fetch(conn, "notify_work")
    return row


def _values(request: Request, now: datetime | None, *, admitted: bool, key: str | None) -> Row:
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
        "run_id": request.run_id,
        "admitted": admitted,
        "concurrency_key": key,
        "now": now,
    }


async def _enqueue_keyed(conn: Connection, request: Request, now: datetime | None, *, keyed: bool) -> Row:
    """A run whose keys have to be made of its request first."""
    task = await tasks.get(conn, request.task_id)
    document = await tasks.definition(conn, task["id"], task["version"])
    try:
        limited_by = concurrency_key(document, task["name"], request.trigger, request.params, request.event)
    except ValidationFailed:
        if keyed:
            raise
        limited_by = own_key(task["name"])
    if task["dedupe_key"] is not None and keyed and request.trigger not in REPEATS:
        return await _deduplicated(conn, request, now, task, document, limited_by)
    row = await _insert(conn, request, now, admitted=True, key=limited_by)
    if row is None:
        raise NotFound(f"there is no task {request.task_id}")
    return row | {"deduplicated": False}


async def _deduplicated(
    conn: Connection,
    request: Request,
    now: datetime | None,
    task: Row,
    document: Mapping[str, Any],
    limited_by: str | None,
) -> Row:
    """The run that the task's dedupe key lets in, or the one that stands for it."""
    key = dedupe_key(document, request.trigger, request.params, request.event)
    at = request.run_at or now or await db.clock(conn)
    claim = Claim(task["id"], key, at, task["dedupe_window"])
    (hold,) = await dedupe.weigh(conn, [claim])
    statement = select(runs_view).where(runs_view.c.run_id == (hold and hold.run_id))
    for standing in await db.select(conn, statement) if hold else ():
        log = telemetry.logger("store.runs")
        log.info(
            "run.deduplicated", run_id=str(standing["run_id"]), task=task["name"], trigger=request.trigger
        )
        return standing | {"deduplicated": True}
    row = await _insert(conn, request, now, admitted=True, key=limited_by)
    if row is None:
        raise NotFound(f"there is no task {request.task_id}")
    await dedupe.admit(conn, [(claim, row["run_id"])])
    return row | {"deduplicated": False}


async def enqueue_once(conn: Connection, request: Request, key: str) -> Row:
    """Queue a run for a step's idempotency key: {run_id, deduplicated}, the same for a repeat, for a day."""
    slot = {"agent_id": request.parent_run_id, "key": key}
    known = await db.fetch_one(conn, "find_key", slot)
    if known and known["body"] is not None:
        return {**known["body"], "run_id": UUID(known["body"]["run_id"])}
    row = await enqueue(conn, request)
    found = {"run_id": row["run_id"], "deduplicated": row["deduplicated"]}
    answer = {"request": b"", "status": 200, "headers": None}
    answer |= {"body": Jsonb(found | {"run_id": str(row["run_id"])})}
    if await db.fetch_one(conn, "insert_key", slot | answer) is None:
        raise Conflict(f"another worker is executing step {key}")
    return found


async def get(conn: Connection, run_id: UUID) -> Row:
    """One run as `duework.runs` has it, with `attempts`, `steps`, `waits` and `quarantine`. Raises NotFound."""
    rows = await db.select(conn, select(runs_view).where(runs_view.c.run_id == run_id))
    if not rows:
        raise NotFound(f"there is no run {run_id}; its history may have been dropped by retention")
    attempts = select(task_run).where(task_run.c.run_id == run_id).order_by(task_run.c.attempt)
    columns = steps_view.c
    steps = select(steps_view).where(columns.run_id == run_id)
    steps = steps.order_by(columns.attempt, columns.position, columns.item)
    parts = {"attempts": await db.select(conn, attempts), "steps": await db.select(conn, steps)}
    blocks = select(quarantine_view).where(quarantine_view.c.run_id == run_id)
    parts["quarantine"] = await db.select(conn, blocks.order_by(quarantine_view.c.attempt))
    return rows[0] | parts | {"waits": await waits.pending(conn, run_id)}


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
    ).where(columns.final, columns.status != "skipped", columns.finished_at >= since)
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
