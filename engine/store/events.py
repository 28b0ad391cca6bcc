"""Events: accepted once, and told to the tasks and the parked steps that wait for their topic, in one transaction."""

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
from engine.store import runs, waits
from engine.store.tables import event
from engine.store.waits import Place

LOOKED_AT = 500
"""Earlier events that are read at once while one that a step has missed is looked for."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `payload` must have passed the gate; (source, external_id) names it for good.

    `id` is the one that was promised for it; None makes one.
    """

    topic: str
    payload: dict[str, Any]
    source: str
    external_id: str | None = None
    agent_id: UUID | None = None
    id: UUID | None = None


async def publish(conn: Connection, given: Event, *, now: datetime | None = None) -> Row:
    """Accept an event, queue a run of every task that waits for it, and wake every run of which a step does.

    Answers {event_id, triggered: [{task_id, task, run_id, deduplicated}], resumed: [run_id], duplicate}; a repeat
    does nothing.
    """
    values = {
        "id": given.id,
        "source": given.source,
        "external_id": given.external_id,
        "topic": given.topic,
        "payload": Jsonb(given.payload),
        "agent_id": given.agent_id,
    }
    row = await db.fetch_one(conn, "insert_event", values)
    if row is None:
        return {"event_id": await _known(conn, given), "triggered": [], "resumed": [], "duplicate": True}
    context = _context(row)
    # First: an answer holds rows of runs that are there, and what is queued below is locked by nobody.
    resumed = await _resume(conn, context, now)
    triggered = []
    for task in await db.fetch(conn, "list_event_tasks", {"topic": given.topic}):
        if not matches(task["topic"], task["options"].get("filter"), context):
            continue
        request = runs.Request(task["id"], "event", event=context, created_by=given.agent_id)
        run = await _enqueue(conn, request, task["name"], now)
        found = {name: run[name] for name in ("run_id", "deduplicated")}
        triggered.append({"task_id": task["id"], "task": task["name"]} | found)
    return {"event_id": row["id"], "triggered": triggered, "resumed": resumed, "duplicate": False}


def _context(row: Row) -> dict[str, Any]:
    """An event as filters and pipelines see it."""
    return {
        "id": str(row["id"]),
        "topic": row["topic"],
        "source": row["source"],
        "payload": row["payload"],
        "at": row["accepted_at"].isoformat(),
    }


async def _resume(conn: Connection, context: Mapping[str, Any], now: datetime | None) -> list[UUID]:
    """Give the event to every parked step that it fits; their runs."""
    listening = await waits.listening(conn, context["topic"], now=now)
    fitting = [
        Place(row["run_id"], row["step"], row["item"])
        for row in listening
        if matches(row["topic"], row["filter"], context, row["given"])
    ]
    answered = await waits.resolve(conn, fitting, context, f"event:{context['id']}", now=now)
    return sorted({place.run_id for place in answered})


async def first_since(
    conn: Connection, topic: str, text: str | None, given: Mapping[str, Any] | None, since: datetime
) -> dict[str, Any] | None:
    """The oldest event from `since` on that fits, as `matches` says; None when there is none."""
    columns = event.c
    like = topic.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%").replace("*", "%")
    statement = select(event).where(columns.topic.like(like), columns.accepted_at >= since)
    statement = statement.order_by(columns.accepted_at, columns.id).limit(LOOKED_AT)
    place: tuple[datetime, UUID] | None = None
    while True:
        after = () if place is None else (tuple_(columns.accepted_at, columns.id) > tuple_(*place),)
        rows = await db.select(conn, statement.where(*after))
        found = (one for one in map(_context, rows) if matches(topic, text, one, given))
        if (first := next(found, None)) is not None or len(rows) < LOOKED_AT:
            return first
        place = rows[-1]["accepted_at"], rows[-1]["id"]


async def _enqueue(conn: Connection, request: runs.Request, task: str, now: datetime | None) -> Row:
    """Queue one run. An event of which a task's dedupe key cannot be made is nobody's repeat, and runs."""
    try:
        return await runs.enqueue(conn, request, now=now)
    except ValidationFailed as error:
        log = telemetry.logger("store.events")
        log.warning("run.unkeyed", task=task, topic=(request.event or {}).get("topic"), error=str(error))
        return await runs.enqueue(conn, request, keyed=False, now=now)


def matches(
    pattern: str, text: str | None, context: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> bool:
    """Whether an event's topic fits `email.*` and its content the filter expression `text`.

    The filter sees the event itself and, as in a pipeline, the root `event`; that of a step also `given`.
    """
    if not fnmatchcase(context["topic"], pattern.replace("[", "[[]")):
        return False
    if not text:
        return True
    try:
        return compile_expression(text).holds({**context, "event": context, "given": given})
    except ValidationFailed as error:
        # A filter with no answer for this event must not keep others from it.
        log = telemetry.logger("store.events")
        log.warning("filter.unanswered", topic=context["topic"], event_id=context["id"], error=str(error))
        return False


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
