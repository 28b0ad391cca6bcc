"""Events: accepted once, matched against the topics that tasks wait for, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import func, select, tuple_

from engine import db, telemetry
from engine.db import Connection, Row
from engine.errors import ValidationFailed
from engine.expressions import compile_expression
from engine.store import runs
from engine.store.tables import event


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `payload` must have passed the gate; (source, external_id) names it for good."""

    topic: str
    payload: dict[str, Any]
    source: str
    external_id: str | None = None
    agent_id: UUID | None = None


async def publish(conn: Connection, given: Event, *, now: datetime | None = None) -> Row:
    """Accept an event and queue a run of every task that waits for it.

    Answers {event_id, triggered: [{task_id, task, run_id, deduplicated}], duplicate}; a repeat triggers nothing.
    """
    values = {
        "source": given.source,
        "external_id": given.external_id,
        "topic": given.topic,
        "payload": Jsonb(given.payload),
        "agent_id": given.agent_id,
    }
    row = await db.fetch_one(conn, "insert_event", values)
    if row is None:
        return {"event_id": await _known(conn, given), "triggered": [], "duplicate": True}
    context = {
        "id": str(row["id"]),
        "topic": row["topic"],
        "source": row["source"],
        "payload": row["payload"],
        "at": row["accepted_at"].isoformat(),
    }
    triggered = []
    for task in await db.fetch(conn, "list_event_tasks", {"topic": given.topic}):
        if not matches(task["topic"], task["options"], context):
            continue
        request = runs.Request(task["id"], "event", event=context, created_by=given.agent_id)
        run = await _enqueue(conn, request, task["name"], now)
        found = {name: run[name] for name in ("run_id", "deduplicated")}
        triggered.append({"task_id": task["id"], "task": task["name"]} | found)
    return {"event_id": row["id"], "triggered": triggered, "duplicate": False}


async def _enqueue(conn: Connection, request: runs.Request, task: str, now: datetime | None) -> Row:
    """Queue one run. An event of which a task's dedupe key cannot be made is nobody's repeat, and runs."""
    try:
        return await runs.enqueue(conn, request, now=now)
    except ValidationFailed as error:
        log = telemetry.logger("store.events")
        log.warning("run.unkeyed", task=task, topic=(request.event or {}).get("topic"), error=str(error))
        return await runs.enqueue(conn, request, keyed=False, now=now)


def matches(pattern: str, options: Mapping[str, Any], context: Mapping[str, Any]) -> bool:
    """Whether an event's topic fits `email.*` and its content the task's `filter` expression."""
    if not fnmatchcase(context["topic"], pattern.replace("[", "[[]")):
        return False
    text = options.get("filter")
    if not text:
        return True
    try:  # the filter sees the event itself and, as in a pipeline, the root `event`
        return compile_expression(text).holds({**context, "event": context})
    except ValidationFailed:
        return False  # a filter with no answer for this event must not keep other tasks from it


async def page(
    conn: Connection,
    *,
    topic: str | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 50,
) -> list[Row]:
    """Accepted events, newest first."""
    statement = select(event).order_by(event.c.accepted_at.desc(), event.c.id.desc()).limit(limit)
    if topic is not None:
        statement = statement.where(event.c.topic == topic)
    if before is not None:
        statement = statement.where(tuple_(event.c.accepted_at, event.c.id) < tuple_(*before))
    return await db.select(conn, statement)


async def topics(conn: Connection) -> list[Row]:
    """[{topic, count, last_at}], the most frequent first."""
    statement = select(
        event.c.topic, func.count().label("count"), func.max(event.c.accepted_at).label("last_at")
    ).group_by(event.c.topic)
    return await db.select(conn, statement.order_by(func.count().desc(), event.c.topic))


async def _known(conn: Connection, given: Event) -> UUID:
    statement = select(event.c.id).where(
        event.c.source == given.source, event.c.external_id == given.external_id
    )
    found: UUID = (await db.select(conn, statement))[0]["id"]
    return found
