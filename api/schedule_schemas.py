"""The JSON Schemas of schedules before they happen and of backfills; `schemas` joins them to the others."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
_REF = "#/components/schemas/"
_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_ID: Schema = {"type": "string", "format": "uuid"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_WALL: Schema = {"type": "string", "description": "Wall time in the schedule's zone, without an offset."}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_TIMES: Schema = {"type": "array", "items": _TIME}
_MOMENT: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 40,
    "description": "A date or date-time; without an offset it is local to the task's zone.",
}
MOST = 1000
"""Instants of one preview, at most."""


def _may(kind: str, **more: Any) -> Schema:
    return {"type": [kind, "null"], **more}


def _all(**properties: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _closed(**properties: Any) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _many(name: str) -> Schema:
    return {"type": "array", "items": {"$ref": _REF + name}}


_PREVIEW: Schema = {
    "schedule": {"type": "string", "description": "The schedule in words."},
    "kind": _TEXT,
    "timezone": _TEXT,
    "tzdata": {"type": "string", "description": "The release of the zone data that was used."},
    "start": _may("string", description="The anchor, as wall time; null where the kind needs none."),
    "jitter_seconds": {"type": "number", "minimum": 0},
    "warnings": _TEXTS,
    "notes": {"type": "array", "items": _TEXT, "description": "What else decides about these instants."},
    "next": _TIMES,
    "instants": _many("Instant"),
    "left_out": _many("LeftOut"),
    "clock_changes": _many("ClockDay"),
    "ended": {"type": "boolean", "description": "Whether nothing comes after these instants."},
}

BODIES: dict[str, Schema] = {
    "PreviewAsked": {
        "type": "object",
        "description": "A schedule as in format v1 or as in the seed's, or a whole definition in either.",
        "if": {"required": ["apiVersion"]},
        "then": {"$ref": _REF + "Pipeline"},
        "else": {
            "if": {"required": ["payload"]},
            "then": {"$ref": _REF + "OrdinautTask"},
            "else": {"$ref": _REF + "ScheduleAsked"},
        },
        "examples": [{"schedule": {"cron": "30 8 * * 1-5", "timezone": "Europe/Chisinau"}, "n": 3}],
    },
    "ScheduleAsked": _closed(
        schedule={"type": "object", "description": "As in format v1."},
        schedule_kind=_TEXT,
        schedule_expr=_TEXT,
        timezone=_TEXT,
        after=_TIME | {"description": "As the query parameter."},
        n={"type": "integer", "minimum": 1, "maximum": MOST, "description": "As the query parameter."},
    )
    | {
        "oneOf": [{"required": ["schedule"]}, {"required": ["schedule_kind"]}],
        "errorMessage": "give exactly one of schedule (format v1) and schedule_kind (the seed's)",
    },
    "BackfillAsked": _closed(
        start=_MOMENT,
        end=_MOMENT | {"description": f"{_MOMENT['description']} Exclusive; now, unless given."},
        max={
            "type": "integer",
            "minimum": 1,
            "maximum": MOST,
            "default": 100,
            "description": "Runs, at most: more are refused, not cut off.",
        },
        dry_run=_FLAG | {"default": False, "description": "Say what would be queued, and queue nothing."},
        rerun=_FLAG | {"default": False, "description": "Also what has succeeded or is queued already."},
        priority={"type": "integer", "minimum": 1, "maximum": 9, "description": "Else the task's plus 2."},
        params={"type": "object", "description": "As of run_now, for every run."},
    )
    | {
        "required": ["start"],
        "examples": [{"start": "2026-11-01", "end": "2026-11-08", "dry_run": True}],
    },
    "BackfillEnd": _closed(
        backfill_id=_ID | {"description": "Only this one; else every backfill of the task."},
        running=_FLAG | {"default": False, "description": "Also the runs that have begun."},
        reason={
            "type": "string",
            "maxLength": 1000,
            "description": "Kept with the runs; personal data is masked.",
        },
    ),
}

ANSWERS: dict[str, Schema] = {
    "Instant": _all(
        at=_TIME | {"description": "In UTC."},
        local=_TIME | {"description": "In the schedule's zone."},
        run_at=_TIME | {"description": "When a run may begin; with jitter, and no task yet, the earliest."},
        latest={**_TIME, "description": "The latest that jitter makes of it."},
        marks={
            "type": "array",
            "items": {"enum": ["gap", "fold", "change_day", "offset_changed", "added"]},
        },
        asked={"type": "array", "items": _WALL},
        fold={"enum": ["first", "second", None]},
        note=_may("string", description="The marks in words."),
    ),
    "LeftOut": _all(
        wall=_WALL,
        at=_may("string", format="date-time", description="Null for a wall time that does not exist."),
        reason={"enum": ["gap", "excluded"]},
        note=_TEXT,
    ),
    "ClockDay": _all(
        at=_TIME | {"description": "When clocks change."},
        offset_before=_TEXT,
        offset_after=_TEXT,
        note=_TEXT,
        instants=_many("Instant"),
        left_out=_many("LeftOut"),
    ),
    "Preview": _all(**_PREVIEW),
    "Upcoming": _all(task_id=_ID, name=_TEXT, status=_TEXT, **_PREVIEW),
    "Backfill": _all(
        backfill_id=_may(
            "string", format="uuid", description="The parent_run_id of its runs; null: none queued."
        ),
        task_id=_ID,
        task=_TEXT,
        task_version={"type": "integer"},
        start=_TIME,
        end=_TIME,
        dry_run=_FLAG,
        rerun=_FLAG,
        priority={"type": "integer"},
        instants=_COUNT | {"description": "How many the schedule names in the range."},
        queued=_COUNT | {"description": "Runs queued; with dry_run, those that would be."},
        runs={
            "type": "array",
            "items": _all(run_id=_may("string", format="uuid"), scheduled_for=_TIME),
        },
        left_out={
            "type": "array",
            "items": _all(scheduled_for=_TIME, reason={"enum": ["succeeded", "queued", "pending"]}),
        },
        message=_TEXT,
    ),
    "BackfillEnded": _all(
        task_id=_ID, task=_TEXT, canceled=_COUNT, canceling=_COUNT, running=_COUNT, message=_TEXT
    ),
}
