"""/runs: the history, and what may be done to a run."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from api import cursors, presentation
from api.operations import CURSOR, INSTANT, LIMIT, OFFSET, Answer, Call, Operation, Parameter
from engine import db, door, reflex
from engine.db import Row
from engine.errors import Conflict, NotFound
from engine.store import approvals, leases, runs, tasks
from engine.store.approvals import Decision


async def listing(call: Call) -> Answer:
    """Runs, newest first."""
    query = dict(call.query)
    filters = query | {
        "since": query["since"] or query["start_time"],
        "until": query["until"] or query["end_time"],
    }
    place = cursors.decode(query["cursor"], query, UUID)
    rows = await runs.page(
        call.conn,
        filters=filters,
        before=place[0] if place else None,
        offset=0 if place else query["offset"],
        limit=query["limit"] + 1,
    )
    show = presentation.run if query["include_errors"] else _without_error
    return Answer(cursors.page(rows, query, lambda row: (row["run_id"],), show))


async def show(call: Call) -> Answer:
    """One run with its attempts and steps, and what it waits for."""
    return Answer(presentation.run_in_full(await runs.get(call.conn, run_id_of(call))))


async def cancel(call: Call) -> Answer:
    """End a run: at once while it waits, else its worker is told."""
    run_id = run_id_of(call)
    reason = reflex.mask(call.body.get("reason") or f"canceled by {call.agent.name}")
    outcome = await leases.cancel(call.conn, run_id, reason)
    run = await runs.find(call.conn, run_id)
    if outcome is None:
        raise Conflict(f"run {run_id} is {run['status']}; only a live run can be canceled")
    await call.audit("run.canceled", f"run:{run_id}", reason=reason)
    message = "the run is canceled" if outcome == "canceled" else "its worker was told to end the run"
    return accepted(call, presentation.run(run), message)


async def approve(call: Call) -> Answer:
    """Decide for a step that waits for a person; the run goes on with the decision."""
    run_id, body = run_id_of(call), call.body
    run = await runs.find(call.conn, run_id)
    floor = door.floor(call.resources.settings)
    pardon = call.resources.allowed.pardon(run["task_id"])
    reason = await door.admit(
        call.resources.metrics,
        body["reason"],
        floor,
        "the reason",
        pardon,
        ask=call.resources.ask,
        task_id=run["task_id"],
    )
    given = Decision(body["decision"], call.agent.name, reason, call.agent.allows("admin"))
    found, changed = await approvals.decide(
        call.conn, run_id, given, step=body.get("step"), item=body.get("item")
    )
    if changed:
        place = {name: value for name, value in presentation.wait(found).items() if name in ("step", "item")}
        after = {"decision": given.decision, "reason": reason}
        action = "run.approved" if given.decision == "approve" else "run.refused"
        await call.audit(action, f"run:{run_id}", **place, before={"decision": None}, after=after)
    message = "the run goes on with this decision" if changed else "this decision was made before"
    return accepted(call, presentation.run(await runs.find(call.conn, run_id)), message)


async def retry(call: Call) -> Answer:
    """Queue a new run with the parameters and the event of one that has ended."""
    run_id = run_id_of(call)
    ended = await runs.final_attempt(call.conn, run_id)
    task = await tasks.get(call.conn, ended["task_id"])
    if task["status"] == "canceled":
        raise Conflict(f"task {task['name']!r} is canceled and cannot be run")
    request = runs.Request(
        task["id"],
        "retry",
        params=ended["params"],
        event=ended["event"],
        scheduled_for=ended["scheduled_for"],
        parent_run_id=run_id,
        created_by=call.agent.id,
    )
    # An event of which no key can be made had its run all the same; it is retried like any other.
    queued = await runs.enqueue(call.conn, request, keyed=False)
    run = presentation.queued(queued, task) | {"parent_run_id": run_id}
    run["trigger"] = "retry"
    await call.audit("run.retried", f"run:{run['run_id']}", of=str(run_id), task=task["name"])
    return accepted(call, run, "a new run is queued")


async def latest(call: Call) -> Answer:
    """The newest run of a task."""
    task = await tasks.get(call.conn, call.path["id"])
    row = await runs.latest(call.conn, task["id"])
    if row is None:
        raise NotFound(f"task {task['name']!r} has not run yet")
    return Answer(presentation.run_in_full(await runs.get(call.conn, row["run_id"])))


async def task_stats(call: Call) -> Answer:
    """How a task's runs went."""
    task = await tasks.get(call.conn, call.path["id"])
    return Answer({"task_id": task["id"], "task": task["name"]} | await _stats(call, task["id"]))


async def summary(call: Call) -> Answer:
    """How all runs went."""
    return Answer(await _stats(call, None))


def run_id_of(call: Call) -> UUID:
    """The run that the path names. Raises NotFound for what is no id of a run."""
    try:
        return UUID(call.path["id"])
    except ValueError:
        raise NotFound("there is no such run: a run's id is a UUID") from None


def _without_error(row: Row) -> dict[str, Any]:
    return presentation.run({key: value for key, value in row.items() if key != "error"})


def accepted(call: Call, run: dict[str, Any], message: str) -> Answer:
    """A run that goes on, or begins: 202, and where it is found."""
    details = {name: run[name] for name in ("run_id", "task_id", "status")}
    body = run | {"success": True, "message": message, "details": details}
    return Answer(body, 202, {"Location": call.link(f"/runs/{run['run_id']}")})


async def _stats(call: Call, task_id: UUID | None) -> dict[str, Any]:
    since: datetime = call.query["since"] or await db.clock(call.conn) - timedelta(days=call.query["days"])
    found = await runs.stats(call.conn, task_id=task_id, since=since)
    return {"since": since, "total_runs": found["total"], **found}


_STATUS = {
    "type": "string",
    "enum": [
        "scheduled",
        "queued",
        "running",
        "waiting",
        "succeeded",
        "failed",
        "blocked",
        "canceled",
        "timed_out",
        "dead",
        "missed",
        "skipped",
    ],
}
_TRIGGER = {
    "type": "string",
    "enum": ["schedule", "run_now", "event", "backfill", "retry", "condition", "pipeline"],
}
_FILTERS = (
    Parameter("task_id", {"type": "string", "format": "uuid"}, "Only runs of this task."),
    Parameter(
        "task", {"type": "string", "minLength": 1, "maxLength": 100}, "Only runs of the task of this name."
    ),
    Parameter("status", _STATUS, "Only runs in this state."),
    Parameter("success", {"type": "boolean"}, "Only runs that succeeded, or that ended otherwise."),
    Parameter("trigger", _TRIGGER, "Only runs with this cause."),
    Parameter(
        "parent_run_id",
        {"type": "string", "format": "uuid"},
        "Only runs of this backfill, or that this run caused.",
    ),
    Parameter("since", INSTANT, "Only runs that started, or are due, from here on."),
    Parameter("until", INSTANT, "Only runs that started, or are due, before this."),
    Parameter("start_time", INSTANT, "The seed's name for `since`."),
    Parameter("end_time", INSTANT, "The seed's name for `until`."),
    Parameter("include_errors", {"type": "boolean", "default": True}, "Whether `error` is shown."),
)
_WINDOW = (
    Parameter("since", INSTANT, "Only runs that finished from here on."),
    Parameter(
        "days",
        {"type": "integer", "minimum": 1, "maximum": 3660, "default": runs.STATS_WINDOW.days},
        "How far back to look, without `since`.",
    ),
)

OPERATIONS = (
    Operation(
        "GET", "/runs", listing, "runs", "List runs", {200: "RunPage"},
        scope="run:read", query=(*_FILTERS, CURSOR, LIMIT, OFFSET),
    ),
    Operation(
        "GET", "/runs/{id}", show, "runs", "Show a run with its attempts and steps", {200: "RunInFull"},
        scope="run:read", errors=(404,),
    ),
    Operation(
        "POST", "/runs/{id}/cancel", cancel, "runs", "Cancel a run", {202: "Accepted"},
        scope="run:write", body="Reason", body_required=False, errors=(404, 409, 422),
    ),
    Operation(
        "POST", "/runs/{id}/approve", approve, "runs", "Approve or refuse what a run waits for", {202: "Accepted"},
        scope="run:write", body="Decision", keyed=True, errors=(400, 404, 409, 422),
    ),
    Operation(
        "POST", "/runs/{id}/retry", retry, "runs", "Run again what has ended", {202: "Accepted"},
        scope="run:write", keyed=True, errors=(404, 409),
    ),
    Operation(
        "GET", "/runs/task/{id}/latest", latest, "runs", "A task's newest run", {200: "RunInFull"},
        scope="run:read", errors=(404,),
    ),
    Operation(
        "GET", "/runs/task/{id}/stats", task_stats, "runs", "How a task's runs went", {200: "Stats"},
        scope="run:read", query=_WINDOW, errors=(404,),
    ),
    Operation(
        "GET", "/runs/stats/summary", summary, "runs", "How all runs went", {200: "Stats"},
        scope="run:read", query=_WINDOW,
    ),
)  # fmt: skip
