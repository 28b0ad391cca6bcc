"""/apply and /schedules/preview: many definitions at once, and a schedule before there is a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api import definitions
from api.bodies import moment
from api.operations import DRY_RUN, Answer, Call, Operation, Parameter
from engine import db
from engine.errors import Malformed, Problem, ValidationFailed
from engine.pipeline import parse_definition
from engine.schedule import describe, tzdata_version
from engine.store import ledger


async def apply(call: Call) -> Answer:
    """Make the tasks what the documents say, all or nothing."""
    if not call.documents:
        raise Malformed("the body holds no definition")
    dry = call.query["dry_run"]
    results = await definitions.apply(call, call.query["set"], prune=call.query["prune"])
    counts = dict.fromkeys(("created", "changed", "unchanged", "removed"), 0)
    for each in results:
        counts[each["result"]] += 1
    body = {"set": call.query["set"], "dry_run": dry, "results": results, "counts": counts}
    return Answer(body, commit=not dry)


async def preview(call: Call) -> Answer:
    """What a schedule means, and its next instants."""
    now = await db.clock(call.conn)
    after = moment(call.body["after"], "/after") if "after" in call.body else now
    try:
        spec = parse_definition(_document(call.body)).schedule
    except ValidationFailed as error:
        raise ValidationFailed(error.message, errors=[_placed(each) for each in error.errors]) from None
    schedule = ledger.schedule_of(spec, now)
    return Answer(
        {
            "schedule": describe(schedule),
            "kind": schedule.kind,
            "timezone": schedule.timezone,
            "warnings": list(schedule.warnings),
            "next": schedule.next(after, call.body["n"]),
            "tzdata": tzdata_version(),
        }
    )


def _document(body: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest definition that has this schedule, in the format it was written in."""
    if "schedule" in body:
        steps = [{"id": "preview", "uses": "core.echo"}]
        return {"apiVersion": "duework/v1", "kind": "Pipeline", "schedule": body["schedule"], "steps": steps}
    seed = {key: body[key] for key in ("schedule_kind", "schedule_expr", "timezone") if key in body}
    return {"title": "preview", "payload": {"pipeline": [{"uses": "core.echo"}]}, **seed}


def _placed(problem: Problem) -> Problem:
    """Line and column belong to a document that nobody wrote."""
    return Problem(problem.code, problem.detail, problem.pointer)


OPERATIONS = (
    Operation(
        "POST", "/apply", apply, "apply", "Make tasks what the definitions say, atomically", {200: "Applied"},
        scope="task:write", body="Definitions", definitions=True, keyed=True,
        query=(
            Parameter(
                "set",
                {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"},
                "The set that these tasks belong to.",
            ),
            Parameter(
                "prune",
                {"type": "boolean", "default": False},
                "Cancel the tasks of the set that no definition names.",
            ),
            DRY_RUN,
        ),
        errors=(409, 422),
    ),
    Operation(
        "POST", "/schedules/preview", preview, "apply", "What a schedule means, and its next instants",
        {200: "Preview"}, scope="task:read", body="PreviewAsked", errors=(422,),
    ),
)  # fmt: skip
