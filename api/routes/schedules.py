"""Schedules before they happen: what a stored task's instants will be, and what a schedule would do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from api import definitions, timetable
from api.bodies import invalid, moment
from api.operations import INSTANT, Answer, Call, Operation, Parameter
from api.schemas.schedules import MOST
from engine import db
from engine.errors import Problem, ValidationFailed
from engine.pipeline import parse_definition
from engine.store import ledger, tasks

DEFAULT = 5


async def upcoming(call: Call) -> Answer:
    """The next instants of a task, by the database's clock; what a paused one's would be."""
    row = await tasks.get(call.conn, call.path["id"])
    now = await db.clock(call.conn)
    planned = await ledger.planned(call.conn, row["id"], now)
    count = call.query["n"] or DEFAULT
    given = definitions.upcoming(row, now, count, planned)
    schedule, options = ledger.schedule_from(row), row["schedule_options"]
    key = str(row["id"])
    found = await asyncio.to_thread(timetable.shown, schedule, options, now, count, key=key, given=given)
    snoozed = await ledger.snoozed(call.conn, row["id"], now)
    found["notes"] = timetable.status_notes(row, now, snoozed) + found["notes"]
    return Answer({"task_id": row["id"], "name": row["name"], "status": row["status"], **found})


async def preview(call: Call) -> Answer:
    """What a schedule means, and its next instants, as if it were stored now (or at `after`, if that is earlier)."""
    now = await db.clock(call.conn)
    after = _after(call) or now
    count = _once(call, "n") or DEFAULT
    try:
        definition = parse_definition(_document(call.body))
    except ValidationFailed as error:
        raise ValidationFailed(error.message, errors=[_placed(each) for each in error.errors]) from None
    spec = definition.schedule
    try:
        schedule = ledger.schedule_of(spec, min(now, after))
    except ValidationFailed as error:
        raise definitions.as_written(error, definition) from None
    found = await asyncio.to_thread(timetable.shown, schedule, spec.options, after, count)
    if spec.start is None and schedule.start is not None:
        words = f"there is no start: it is anchored at {schedule.start.isoformat()}"
        said = ", where it takes what the rule leaves out" if spec.kind == "rrule" else ""
        found["notes"].append(words + said)
    return Answer(found)


def _after(call: Call) -> datetime | None:
    given: datetime | str | None = _once(call, "after")
    return moment(given, "/after") if isinstance(given, str) else given


def _once(call: Call, name: str) -> Any:
    """A value of the query or of the body. Raises ValidationFailed when both give it."""
    inside = None if "apiVersion" in call.body or "payload" in call.body else call.body.get(name)
    if inside is not None and call.query[name] is not None:
        raise invalid(
            "the body is not valid", [Problem("given_twice", "is in the query as well", f"/{name}")]
        )
    return inside if call.query[name] is None else call.query[name]


def _document(body: Mapping[str, Any]) -> dict[str, Any]:
    """The definition given, or the smallest one that has this schedule, in the format it was written in."""
    if "apiVersion" in body or "payload" in body:
        return dict(body)
    if "schedule" in body:
        steps = [{"id": "preview", "uses": "core.echo"}]
        return {"apiVersion": "duework/v1", "kind": "Pipeline", "schedule": body["schedule"], "steps": steps}
    seed = {key: body[key] for key in ("schedule_kind", "schedule_expr", "timezone") if key in body}
    return {"title": "preview", "payload": {"pipeline": [{"uses": "core.echo"}]}, **seed}


def _placed(problem: Problem) -> Problem:
    """Line and column belong to a document that nobody wrote."""
    return Problem(problem.code, problem.detail, problem.pointer)


_COUNT = Parameter(
    "n", {"type": "integer", "minimum": 1, "maximum": MOST}, f"How many instants; {DEFAULT} unless given."
)
_AFTER = Parameter("after", INSTANT, "Only instants after this one; now, unless given.")

OPERATIONS = (
    Operation(
        "GET", "/tasks/{id}/next", upcoming, "schedules", "The next instants of a task", {200: "Upcoming"},
        scope="task:read", query=(_COUNT,), errors=(404,),
    ),
    Operation(
        "POST", "/schedules/preview", preview, "schedules", "What a schedule means, and its next instants",
        {200: "Preview"}, scope="task:read", body="PreviewAsked", query=(_COUNT, _AFTER), errors=(422,),
    ),
)  # fmt: skip
