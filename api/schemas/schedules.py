"""The JSON Schemas of schedules before they happen and of backfills; the package joins them to the others."""

from __future__ import annotations

from typing import Any

from api.schemas.words import COUNT, FLAG, ID, TEXT, TIME, Schema, may, ref

_WALL: Schema = {"type": "string", "description": "Wall time in the schedule's zone, without an offset."}
_TEXTS: Schema = {"type": "array", "items": TEXT}
_TIMES: Schema = {"type": "array", "items": TIME}
_MOMENT: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 40,
    "description": "A date or date-time; without an offset it is local to the task's zone.",
}
MOST = 1000
"""Instants of one preview, at most."""


def _all(**properties: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _closed(**properties: Any) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _many(name: str) -> Schema:
    return {"type": "array", "items": ref(name)}


_PREVIEW: Schema = {
    "schedule": {"type": "string", "description": "The schedule in words."},
    "kind": TEXT,
    "timezone": TEXT,
    "tzdata": {"type": "string", "description": "The release of the zone data that was used."},
    "start": may("string", description="The anchor, as wall time; null where the kind needs none."),
    "jitter_seconds": {"type": "number", "minimum": 0},
    "warnings": _TEXTS,
    "notes": {"type": "array", "items": TEXT, "description": "What else decides about these instants."},
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
        "then": ref("Pipeline"),
        "else": {
            "if": {"required": ["payload"]},
            "then": ref("OrdinautTask"),
            "else": ref("ScheduleAsked"),
        },
        "examples": [{"schedule": {"cron": "30 8 * * 1-5", "timezone": "Europe/Chisinau"}, "n": 3}],
    },
    "ScheduleAsked": _closed(
        schedule={"type": "object", "description": "As in format v1."},
        schedule_kind=TEXT,
        schedule_expr=TEXT,
        timezone=TEXT,
        after=TIME | {"description": "As the query parameter."},
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
        dry_run=FLAG | {"default": False, "description": "Say what would be queued, and queue nothing."},
        rerun=FLAG | {"default": False, "description": "Also what has succeeded or is queued already."},
        priority={"type": "integer", "minimum": 1, "maximum": 9, "description": "Else the task's plus 2."},
        params={"type": "object", "description": "As of run_now, for every run."},
    )
    | {
        "required": ["start"],
        "examples": [{"start": "2026-11-01", "end": "2026-11-08", "dry_run": True}],
    },
    "BackfillEnd": _closed(
        backfill_id=ID | {"description": "Only this one; else every backfill of the task."},
        running=FLAG | {"default": False, "description": "Also the runs that have begun."},
        reason={
            "type": "string",
            "maxLength": 1000,
            "description": "Kept with the runs; personal data is masked.",
        },
    ),
}

ANSWERS: dict[str, Schema] = {
    "Instant": _all(
        at=TIME | {"description": "In UTC."},
        local=TIME | {"description": "In the schedule's zone."},
        run_at=TIME | {"description": "When a run may begin; with jitter, and no task yet, the earliest."},
        latest={**TIME, "description": "The latest that jitter makes of it."},
        marks={
            "type": "array",
            "items": {"enum": ["gap", "fold", "change_day", "offset_changed", "added"]},
        },
        asked={"type": "array", "items": _WALL},
        fold={"enum": ["first", "second", None]},
        note=may("string", description="The marks in words."),
    ),
    "LeftOut": _all(
        wall=_WALL,
        at=may("string", format="date-time", description="Null for a wall time that does not exist."),
        reason={"enum": ["gap", "excluded"]},
        note=TEXT,
    ),
    "ClockDay": _all(
        at=TIME | {"description": "When clocks change."},
        offset_before=TEXT,
        offset_after=TEXT,
        note=TEXT,
        instants=_many("Instant"),
        left_out=_many("LeftOut"),
    ),
    "Preview": _all(**_PREVIEW),
    "Upcoming": _all(task_id=ID, name=TEXT, status=TEXT, **_PREVIEW),
    "Backfill": _all(
        backfill_id=may(
            "string", format="uuid", description="The parent_run_id of its runs; null: none queued."
        ),
        task_id=ID,
        task=TEXT,
        task_version={"type": "integer"},
        start=TIME,
        end=TIME,
        dry_run=FLAG,
        rerun=FLAG,
        priority={"type": "integer"},
        instants=COUNT | {"description": "How many the schedule names in the range."},
        queued=COUNT | {"description": "Runs queued; with dry_run, those that would be."},
        runs={
            "type": "array",
            "items": _all(run_id=may("string", format="uuid"), scheduled_for=TIME),
        },
        left_out={
            "type": "array",
            "items": _all(scheduled_for=TIME, reason={"enum": ["succeeded", "queued", "pending"]}),
        },
        message=TEXT,
    ),
    "BackfillEnded": _all(
        task_id=ID, task=TEXT, canceled=COUNT, canceling=COUNT, running=COUNT, message=TEXT
    ),
}
