"""/submit: a goal in words becomes a run of the pipeline that is configured for goals (seed 004).

What is submitted is called a task there, and its id is the run's: GET /tasks/{id} shows what became of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from api import presentation
from api.operations import Answer, Call, Operation
from api.schemas.submissions import PRIORITIES
from engine import door, reflex
from engine.db import Connection, Row
from engine.errors import Conflict, GateBlocked, NotFound
from engine.pipeline.params import run_params
from engine.store import runs, tasks

TRIGGER = "submit"


async def submit(call: Call) -> Answer:
    """Gate a goal, and queue a run for it."""
    row = await _pipeline(call)
    document = await tasks.definition(call.conn, row["id"], row["version"])
    given = {name: value for name, value in call.body.items() if value is not None}
    resources = call.resources
    try:
        params: dict[str, Any] = await door.admit(
            resources.metrics,
            run_params(row["name"], document, given),
            reflex.policy_of(document),
            "what was submitted",
            resources.allowed.pardon(row["id"]),
            ask=resources.ask,
            task_id=row["id"],
        )
    except GateBlocked as refused:
        raise _in_seeds_shape(refused) from refused
    priority = PRIORITIES[given.get("priority", "medium")]
    request = runs.Request(row["id"], TRIGGER, params=params, priority=priority, created_by=call.agent.id)
    run = await runs.enqueue(call.conn, request)
    action = "run.deduplicated" if run["deduplicated"] else "run.submitted"
    await call.audit(action, f"run:{run['run_id']}", task=row["name"])
    body = {"task_id": run["run_id"], "status": "pending"}
    message = "Task submitted successfully and queued for processing"
    return Answer(body | {"message": message}, 202, {"Location": call.link(f"/tasks/{run['run_id']}")})


async def find(conn: Connection, ref: str, pipeline: str) -> dict[str, Any]:
    """What was submitted and is known by this id, as seed 004 shows it. Raises NotFound.

    A run of the task `pipeline` counts, whoever asked for it: by a dedupe key it may stand for a submission.
    """
    try:
        run = await runs.find(conn, UUID(ref))
    except (ValueError, NotFound):
        raise NotFound(f"there is no task {ref!r}; `duework task list` shows those there are") from None
    if run["trigger"] != TRIGGER and run["task"] != pipeline:
        raise NotFound(f"there is no task {ref!r}; /runs/{ref} is a run")
    return presentation.submission(run)


async def _pipeline(call: Call) -> Row:
    name = call.resources.settings.submission_task
    try:
        row = await tasks.get(call.conn, name)
    except NotFound:
        mend = "define it, or name another in DUEWORK_SUBMISSION_TASK (catalogs/pipelines/submission.yaml is a start)"
        raise Conflict(f"no task {name!r} is there to run what is submitted: {mend}") from None
    if row["status"] == "canceled":
        raise Conflict(f"task {name!r}, which runs what is submitted, is canceled")
    return row


def _in_seeds_shape(refused: GateBlocked) -> GateBlocked:
    """The refusal with the seed's members beside ours; values are masked, which there they are not."""
    findings: list[Mapping[str, Any]] = refused.details["verdict"]["findings"]
    pii = [
        {
            "pii_type": each["kind"],
            "value": each.get("masked", ""),
            "pointer": each["pointer"],
            "position": each["start"],
            "confidence": each["confidence"],
        }
        for each in findings
        if each["category"] == "pii"
    ]
    injection = [
        {"injection_type": each["family"], "severity": each["severity"], "pointer": each["pointer"]}
        for each in findings
        if each["category"] != "pii"
    ]
    told = {"pii_detected": bool(pii), "pii_matches": pii}
    told |= {"injection_detected": bool(injection), "injection_matches": injection}
    return GateBlocked(refused.message, errors=refused.errors, details={**refused.details, **told})


OPERATIONS = (
    Operation(
        "POST", "/submit", submit, "tasks", "Submit a goal", {202: "Submitted"},
        scope="task:run", body="Submission", keyed=True, errors=(409, 422),
    ),
)  # fmt: skip
