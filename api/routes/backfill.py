"""/tasks/{id}/backfill: run what the schedule names in a range of the past, and end that again."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Any
from uuid import UUID, uuid4

from api.bodies import invalid
from api.operations import Answer, Call, Operation
from api.rendering import instant
from api.routes.tasks import admitted_params
from engine import db, reflex
from engine.db import Row
from engine.errors import Conflict, Problem
from engine.schedule import dst
from engine.schedule.moments import parse_moment
from engine.schedule.zones import load_zone
from engine.store import backfill, leases, runs, tasks
from engine.store.backfill import Found


async def ask(call: Call) -> Answer:
    """Queue a run for every instant in the range that has none; a paused task may be backfilled, too."""
    row = await tasks.get(call.conn, call.path["id"], lock=True)
    if row["status"] == "canceled":
        raise Conflict(f"task {row['name']!r} is canceled and cannot be run")
    start, end = _range(call, row, await db.clock(call.conn))
    params = await admitted_params(call, row)
    wish = call.body
    found = await backfill.find(call.conn, row, start, end, wish["max"], rerun=wish["rerun"])
    request = runs.Request(
        row["id"],
        "backfill",
        params=params,
        priority=backfill.priority(row, wish.get("priority")),
        parent_run_id=uuid4(),
        created_by=call.agent.id,
    )
    queued = [] if wish["dry_run"] else await runs.enqueue_each(call.conn, request, found.instants)
    if queued:
        await _told(call, row, request, start, end, len(queued))
    answer = _shown(row, request, found, queued, wish["dry_run"])
    answer |= {"start": start, "end": end, "dry_run": wish["dry_run"], "rerun": wish["rerun"]}
    return Answer(answer, 200 if wish["dry_run"] else 202, commit=not wish["dry_run"])


async def cancel(call: Call) -> Answer:
    """End what a backfill has queued and nobody has begun; what is under way, if that is asked for."""
    row = await tasks.get(call.conn, call.path["id"], lock=True)
    only = UUID(call.body["backfill_id"]) if "backfill_id" in call.body else None
    reason = reflex.mask(call.body.get("reason") or f"the backfill was canceled by {call.agent.name}")
    canceled = await backfill.cancel(call.conn, row["id"], only, reason)
    running = await backfill.live(call.conn, row["id"], only)
    asked = running if call.body.get("running") else []
    outcomes = [await leases.cancel(call.conn, run_id, reason) for run_id in asked]
    canceled += outcomes.count("canceled")
    canceling = outcomes.count("canceling")
    if canceled or canceling:
        subject = f"task:{row['id']}"
        ids = {"backfill_id": str(only)} if only else {}
        await call.audit("backfill.canceled", subject, name=row["name"], runs=canceled + canceling, **ids)
    left = 0 if asked else len(running)
    words = [f"{_runs(canceled)} canceled"]
    words += [f"the workers of {_runs(canceling)} were told"] if canceling else []
    words += [f"{_runs(left)} under way and left alone"] if left else []
    counts = {"canceled": canceled, "canceling": canceling, "running": left}
    return Answer({"task_id": row["id"], "task": row["name"], **counts, "message": "; ".join(words)})


def _range(call: Call, row: Row, now: datetime) -> tuple[datetime, datetime]:
    """The range as instants. Raises ValidationFailed for an empty one, or one that reaches into the future."""
    start = _instant(call.body["start"], row, "/start")
    end = _instant(call.body["end"], row, "/end") if "end" in call.body else now
    if end > now:
        detail = f"the end {instant(end)} is in the future; it is {instant(now)}"
        raise invalid("nothing can be backfilled", [Problem("in_the_future", detail, "/end")])
    if start >= end:
        detail = f"the start {instant(start)} is not before the end {instant(end)}"
        raise invalid("nothing can be backfilled", [Problem("empty_range", detail, "/start")])
    return start, end


def _instant(text: str, row: Row, pointer: str) -> datetime:
    """A moment as an instant; a date, or a time without an offset, is local to the task's zone."""
    found: date | datetime = parse_moment(text, pointer)
    local = found if isinstance(found, datetime) else datetime.combine(found, time())
    return dst.earliest(local, load_zone(row["timezone"])) if local.tzinfo is None else local


async def _told(
    call: Call, row: Row, request: runs.Request, start: datetime, end: datetime, count: int
) -> None:
    await call.audit(
        "backfill.requested",
        f"task:{row['id']}",
        name=row["name"],
        backfill_id=str(request.parent_run_id),
        start=instant(start),
        end=instant(end),
        runs=count,
    )


def _shown(row: Row, request: runs.Request, found: Found, queued: list[Row], dry_run: bool) -> dict[str, Any]:
    shown = [{"run_id": None, "scheduled_for": at} for at in found.instants]
    if queued:
        shown = [{name: each[name] for name in ("run_id", "scheduled_for")} for each in queued]
    verb = "would be queued" if dry_run else "queued"
    message = f"{_runs(len(shown))} {verb}, {len(found.left_out)} of {found.total} instants left out"
    return {
        "backfill_id": request.parent_run_id if queued else None,
        "task_id": row["id"],
        "task": row["name"],
        "task_version": row["version"],
        "priority": request.priority,
        "instants": found.total,
        "queued": len(shown),
        "runs": shown,
        "left_out": [{"scheduled_for": at, "reason": reason} for at, reason in found.left_out],
        "message": message if found.total else "the schedule names no instant in this range",
    }


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


OPERATIONS = (
    Operation(
        "POST", "/tasks/{id}/backfill", ask, "schedules", "Run what a schedule names in a range of the past",
        {202: "Backfill", 200: "Backfill"}, scope="task:run", body="BackfillAsked", keyed=True,
        errors=(404, 409, 422),
    ),
    Operation(
        "POST", "/tasks/{id}/backfill/cancel", cancel, "schedules", "End what a backfill has queued",
        {200: "BackfillEnded"}, scope="task:run", body="BackfillEnd", body_required=False, errors=(404, 422),
    ),
)  # fmt: skip
