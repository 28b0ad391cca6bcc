"""A preview as the API shows it, and what else decides about a task's instants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from engine.db import Row
from engine.durations import format_duration, parse_duration
from engine.schedule import Schedule, jitter_offset, tzdata_version
from engine.schedule.preview import ClockDay, Fire, LeftOut, Preview, preview

NO_JITTER = timedelta(0)


def shown(
    schedule: Schedule,
    options: Mapping[str, Any],
    after: datetime,
    limit: int,
    *,
    key: str | None = None,
    given: Sequence[datetime] | None = None,
) -> dict[str, Any]:
    """What a schedule does after an instant. `options` are the definition's; `key` is the stored task's id,
    which decides its jitter; `given` as in `preview`."""
    jitter = parse_duration(options["jitter"]) if options.get("jitter") else NO_JITTER
    found = preview(schedule, after, limit, given=given)
    start = schedule.start
    return {
        "schedule": found.words,
        "kind": found.kind,
        "timezone": found.timezone,
        "tzdata": tzdata_version(),
        "start": None if start is None else start.isoformat(),
        "jitter_seconds": jitter.total_seconds(),
        "warnings": list(found.warnings),
        "notes": _notes(found, jitter),
        **_marked(found, jitter, key),
        "ended": found.ended,
    }


def status_notes(row: Row, now: datetime, snoozed: Row | None) -> list[str]:
    """What stands between a stored task's instants and their runs."""
    reason = f" ({row['status_reason']})" if row["status_reason"] else ""
    if row["status"] == "paused":
        return [f"the task is paused{reason}: none of these will run unless it is resumed before"]
    if row["status"] == "canceled":
        return [f"the task is canceled{reason}: none of these will run"]
    if snoozed is not None:
        until = snoozed["last_for"] or snoozed["scheduled_for"]
        return [f"instants up to {_utc(until)} are left out: {snoozed['reason']}"]
    if row["next_run"] is not None and row["next_run"] < now:
        return [f"{_utc(row['next_run'])} has passed, and no scheduler has come to it yet"]
    return []


def _notes(found: Preview, jitter: timedelta) -> list[str]:
    notes = []
    if found.kind in ("event", "manual"):
        notes.append(f"there are no instants: it runs {found.words}")
    elif found.ended and not found.instants:
        notes.append("nothing is to come: the schedule has ended")
    if found.kind == "condition":
        notes.append("these are the moments of the probe; it runs when the probe turns true")
    if jitter:
        notes.append(f"a run begins up to {format_duration(jitter)} after its instant (jitter)")
    return notes


def _marked(found: Preview, jitter: timedelta, key: str | None) -> dict[str, Any]:
    return {
        "next": [fire.at for fire in found.instants],
        "instants": [_instant(fire, jitter, key) for fire in found.instants],
        "left_out": [_left_out(each) for each in found.left_out],
        "clock_changes": [_clock_day(day, jitter, key) for day in found.clock_days],
    }


def _instant(fire: Fire, jitter: timedelta, key: str | None) -> dict[str, Any]:
    offset = jitter_offset(key, fire.at, jitter) if key and jitter else NO_JITTER
    return {
        "at": fire.at,
        "local": fire.local.isoformat(),
        "run_at": fire.at + offset,
        "latest": fire.at + jitter,
        "marks": list(fire.marks),
        "asked": [wall.isoformat() for wall in fire.asked],
        "fold": fire.fold,
        "note": fire.note or None,
    }


def _left_out(each: LeftOut) -> dict[str, Any]:
    return {"wall": each.wall.isoformat(), "at": each.at, "reason": each.reason, "note": each.note}


def _clock_day(day: ClockDay, jitter: timedelta, key: str | None) -> dict[str, Any]:
    return {
        "at": day.change.at,
        "offset_before": _offset(day.change.before),
        "offset_after": _offset(day.change.after),
        "note": str(day.change),
        "instants": [_instant(fire, jitter, key) for fire in day.instants],
        "left_out": [_left_out(each) for each in day.left_out],
    }


def _offset(offset: timedelta) -> str:
    """ "+02:00"."""
    return datetime(2000, 1, 1, tzinfo=timezone(offset)).isoformat()[19:]


def _utc(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
