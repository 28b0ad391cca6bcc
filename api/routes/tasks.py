"""/tasks: define, look at, change, and set in motion."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from api import cursors, definitions, presentation
from api.admission import Admitted
from api.bodies import moment
from api.operations import CURSOR, DRY_RUN, LIMIT, OFFSET, Answer, Call, Operation, Parameter
from api.rendering import entity_tag, expected_version, instant, tag_listed
from api.routes import submissions
from api.waiting import finished, preference
from engine import db, door, reflex
from engine.db import Row
from engine.errors import Conflict, Malformed, NotFound
from engine.pipeline import Document
from engine.pipeline.params import run_params
from engine.store import runs, tasks


async def create(call: Call) -> Answer:
    """Define a task."""
    row, admitted = await definitions.create(call, _one(call))
    if call.query["dry_run"]:
        return await _dry(call, row, admitted)
    body = await _in_full(call, row)
    headers = {"Location": call.link(f"/tasks/{row['id']}"), "ETag": entity_tag(row["version"], body)}
    told = definitions.warnings(admitted, await db.clock(call.conn))
    return Answer(body | {"warnings": told} if told else body, 201, headers)


async def listing(call: Call) -> Answer:
    """Tasks, oldest first."""
    place = cursors.decode(call.query["cursor"], call.query, datetime, UUID)
    rows = await tasks.page(
        call.conn,
        filters=call.query,
        after=place,
        offset=0 if place else call.query["offset"],
        limit=call.query["limit"] + 1,
    )
    return Answer(
        cursors.page(rows, call.query, lambda row: (row["created_at"], row["id"]), presentation.task)
    )


async def show(call: Call) -> Answer:
    """One task by id or name; or what was submitted, by its id."""
    try:
        row = await tasks.get(call.conn, call.path["id"])
    except NotFound:
        pipeline = call.resources.settings.submission_task
        return Answer(await submissions.find(call.conn, call.path["id"], pipeline))
    body = await _in_full(call, row)
    tag = entity_tag(body["version"], body)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag_listed(call.request.headers.get("if-none-match"), tag):
        return Answer(None, 304, headers)
    return Answer(body, 200, headers)


async def change(call: Call) -> Answer:
    """Merge a patch into the definition, or replace it by a whole one."""
    row = await _locked(call)
    patch = _one(call)
    if not isinstance(patch.value, Mapping):
        raise Malformed("the body must be an object: a merge patch, or a whole definition")
    document = patch
    if "apiVersion" not in patch.value and "schedule_kind" not in patch.value:
        stored = await tasks.definition(call.conn, row["id"], row["version"])
        document = Document(definitions.merge(stored, patch.value), patch.source)
    changed, _ = await definitions.change(call, row, document)
    body = await _in_full(call, changed)
    return Answer(body, 200, {"ETag": entity_tag(changed["version"], body)})


async def delete(call: Call) -> Answer:
    """End a task and what of it nobody has begun; its history stays."""
    row = await _locked(call)
    await tasks.cancel(call.conn, row["id"], await db.clock(call.conn))
    await call.audit("task.canceled", f"task:{row['id']}", name=row["name"])
    return Answer(None, 204)


async def run_now(call: Call) -> Answer:
    """Queue a run, or name the one that stands for it by the dedupe key; a paused task may be run, too."""
    row = await tasks.get(call.conn, call.path["id"])
    if row["status"] == "canceled":
        raise Conflict(f"task {row['name']!r} is canceled and cannot be run")
    params = await admitted_params(call, row)
    request = runs.Request(row["id"], "run_now", params=params, created_by=call.agent.id)
    run = await runs.enqueue(call.conn, request)
    if run["deduplicated"]:
        await call.audit("run.deduplicated", f"run:{run['run_id']}", task=row["name"])
        return _asked(
            call, _standing(call, run), f"run {run['run_id']} stands for this one: nothing is queued"
        )
    await call.audit("run.requested", f"run:{run['run_id']}", task=row["name"])
    return _asked(call, presentation.queued(run, row), "the run is queued")


async def pause(call: Call) -> Answer:
    """Stop the schedule; run-now still works."""
    row = await _locked(call)
    after = await tasks.pause(call.conn, row["id"], await db.clock(call.conn), _reason(call))
    return await _moved(call, row, after, "task.paused")


async def resume(call: Call) -> Answer:
    """Start the schedule again."""
    row = await _locked(call)
    return await _moved(
        call, row, await tasks.resume(call.conn, row["id"], await db.clock(call.conn)), "task.resumed"
    )


async def cancel(call: Call) -> Answer:
    """End a task for good, and what of it nobody has begun; its history stays."""
    row = await _locked(call)
    after = await tasks.cancel(call.conn, row["id"], await db.clock(call.conn), _reason(call))
    return await _moved(call, row, after, "task.canceled")


async def snooze(call: Call) -> Answer:
    """Skip every instant before a moment."""
    row = await _locked(call)
    now = await db.clock(call.conn)
    after = await tasks.snooze(call.conn, row["id"], now, _until(call, now), _reason(call))
    await call.audit("task.snoozed", f"task:{row['id']}", name=row["name"], until=instant(_until(call, now)))
    return Answer(await _in_full(call, after))


async def versions(call: Call) -> Answer:
    """Every definition the task ever had."""
    row = await tasks.get(call.conn, call.path["id"])
    found = await tasks.versions(call.conn, row["id"])
    return Answer({"items": [presentation.version(each) for each in found]})


def _one(call: Call) -> Document:
    if len(call.documents) != 1:
        raise Malformed(f"one definition is needed, not {len(call.documents)}; POST /apply takes several")
    return call.documents[0]


async def _locked(call: Call) -> Row:
    row = await tasks.get(call.conn, call.path["id"], lock=True)
    tasks.require_version(row, expected_version(call.request.headers.get("if-match")))
    return row


async def _in_full(call: Call, row: Row) -> dict[str, Any]:
    definition = await tasks.definition(call.conn, row["id"], row["version"])
    return presentation.task_in_full(row, definition, await runs.latest(call.conn, row["id"]))


async def _dry(call: Call, row: Row, admitted: Admitted) -> Answer:
    plan = definitions.summary(row["name"], "created", row, admitted, await db.clock(call.conn))
    del plan["id"]
    return Answer(plan | {"definition": admitted.definition.document, "dry_run": True}, commit=False)


async def _moved(call: Call, before: Row, after: Row, action: str) -> Answer:
    """The task after a change of its state; a change that changed nothing leaves no line in the audit log."""
    if before["status"] != after["status"]:
        await call.audit(action, f"task:{after['id']}", name=after["name"], reason=after["status_reason"])
    return Answer(await _in_full(call, after))


def _reason(call: Call) -> str | None:
    reason = call.body.get("reason")
    return reflex.mask(reason) if reason else None


def _until(call: Call, now: datetime) -> datetime:
    if "delay_seconds" in call.body:
        return now + timedelta(seconds=call.body["delay_seconds"])
    return moment(call.body["until"], "/until")


async def admitted_params(call: Call, row: Row) -> dict[str, Any] | None:
    """The run's parameters: those given over the definition's, checked, and as the gate lets them through."""
    document = await tasks.definition(call.conn, row["id"], row["version"])
    given = call.body.get("params")
    params = run_params(row["name"], document, given)
    if not given:
        return None
    policy = reflex.policy_of(document)
    metrics, ask, pardon = (
        call.resources.metrics,
        call.resources.ask,
        call.resources.allowed.pardon(row["id"]),
    )
    checked: dict[str, Any] = await door.admit(
        metrics, params, policy, "the parameters", pardon, ask=ask, task_id=row["id"]
    )
    return checked


def _asked(call: Call, run: dict[str, Any], message: str) -> Answer:
    """The run, as the seeds' clients and as ours read it; or the finished one, if that was preferred."""
    wish = preference(call.request)
    headers = {"Location": call.link(f"/runs/{run['run_id']}")}
    status = 202 if wish.asynchronous else 200
    if wish.asynchronous:
        headers["Preference-Applied"] = "respond-async"
    queued = Answer(_seen(run, message), status, headers)
    if not wish.wait:
        return queued

    async def follow() -> Answer:
        row = await finished(call.resources, run["run_id"], wish.wait)
        if row is None:
            applied = headers | {"Preference-Applied": f"wait={wish.wait}"}
            return Answer(_seen(run, "the run has not finished yet; it goes on"), status, applied)
        ended = row | {"deduplicated": run["deduplicated"]}
        shown = _seen(_standing(call, ended), f"the run has ended: {row['status']}")
        return Answer(shown, 200, headers | {"Preference-Applied": f"wait={wish.wait}"})

    return Answer(queued.body, queued.status, queued.headers, follow=follow)


def _standing(call: Call, row: Row) -> dict[str, Any]:
    """A run as its asker may see it: what somebody else's was given and gave is for those who may read runs."""
    shown = presentation.run(row)
    if row["deduplicated"] and not call.agent.allows("run:read"):
        return shown | {"params": None, "output": None, "error": None}
    return shown


def _seen(run: dict[str, Any], message: str) -> dict[str, Any]:
    """The run with the seed's members; `success` is true for what was accepted, until the run has ended."""
    details = {name: run[name] for name in ("run_id", "task_id", "status")}
    success = run["success"] is not False
    return run | {"success": success, "message": message, "details": details}


_STATUS = {"type": "string", "enum": ["active", "paused", "canceled"]}
_KIND = {"type": "string", "enum": ["rrule", "cron", "every", "once", "event", "condition", "manual"]}
_TEXT = {"type": "string", "minLength": 1, "maxLength": 200}
_FILTERS = (
    Parameter("status", _STATUS, "Only tasks in this state."),
    Parameter("kind", _KIND, "Only tasks with this kind of schedule."),
    Parameter("label", _TEXT, "Only tasks with this label, as `name=value`."),
    Parameter("created_by", {"type": "string", "format": "uuid"}, "Only tasks of this agent."),
    Parameter("set", _TEXT, "Only tasks of this set."),
    Parameter("q", _TEXT, "Only tasks with this text in name or title."),
)


def _state(
    path: str, handler: Any, summary: str, body: str = "Reason", errors: tuple[int, ...] = ()
) -> Operation:
    return Operation(
        "POST", f"/tasks/{{id}}/{path}", handler, "tasks", summary, {200: "Task"},
        scope="task:write", body=body, body_required=body == "Snooze", headers=("If-Match",),
        errors=(404, 409, 412, 422, *errors),
    )  # fmt: skip


OPERATIONS = (
    Operation(
        "POST", "/tasks", create, "tasks", "Define a task", {201: "Task", 200: "Plan"},
        scope="task:write", body="Definition", definitions=True, keyed=True, query=(DRY_RUN,), errors=(409, 422),
    ),
    Operation(
        "GET", "/tasks", listing, "tasks", "List tasks", {200: "TaskPage"},
        scope="task:read", query=(*_FILTERS, CURSOR, LIMIT, OFFSET),
    ),
    Operation(
        "GET", "/tasks/{id}", show, "tasks", "Show a task", {200: "TaskOrSubmission", 304: None},
        scope="task:read", headers=("If-None-Match",), errors=(404,),
    ),
    *(
        Operation(
            method, "/tasks/{id}", change, "tasks", summary, {200: "Task"},
            scope="task:write", body="DefinitionPatch", definitions=True, headers=("If-Match",),
            errors=(404, 409, 412, 422),
        )
        for method, summary in (("PATCH", "Change a task (merge patch)"), ("PUT", "Change a task (as PATCH)"))
    ),
    Operation(
        "DELETE", "/tasks/{id}", delete, "tasks", "Cancel a task; its history stays", {204: None},
        scope="task:write", headers=("If-Match",), errors=(404, 412),
    ),
    Operation(
        "POST", "/tasks/{id}/run_now", run_now, "tasks", "Run a task now", {200: "Accepted", 202: "Accepted"},
        scope="task:run", body="RunNow", body_required=False, keyed=True, headers=("Prefer",),
        errors=(404, 409, 422),
    ),
    _state("pause", pause, "Stop a task's schedule"),
    _state("resume", resume, "Start a task's schedule again"),
    _state("cancel", cancel, "Cancel a task; its history stays"),
    _state("snooze", snooze, "Skip a task's instants before a moment", "Snooze"),
    Operation(
        "GET", "/tasks/{id}/versions", versions, "tasks", "Every definition a task ever had", {200: "Versions"},
        scope="task:read", errors=(404,),
    ),
)  # fmt: skip
