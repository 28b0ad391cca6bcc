"""/quarantine, and the word on a run that the gate has blocked: release it, or refuse it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from api import cursors, presentation
from api.operations import CURSOR, LIMIT, Answer, Call, Operation, Parameter
from api.routes.runs import accepted, run_id_of
from engine import door
from engine.db import Row
from engine.store import quarantine, runs

RELEASE = "reflex:release"
STATUS = {"type": "string", "enum": ["held", "released", "refused", "all"], "default": "held"}


async def listing(call: Call) -> Answer:
    """What is held, or was decided, the newest first."""
    query = call.query
    place = cursors.decode(query["cursor"], query, datetime, UUID)
    status = None if query["status"] == "all" else query["status"]
    filters = {"status": status, "task_id": query["task_id"], "run_id": query["run_id"]}
    rows = await quarantine.page(call.conn, filters=filters, before=place, limit=query["limit"] + 1)
    return Answer(cursors.page(rows, query, lambda row: (row["held_at"], row["run_id"]), dict))


async def release(call: Call) -> Answer:
    """Let a blocked run go on, with exactly these findings let pass."""
    run_id = run_id_of(call)
    reason = await _reason(call, run_id)
    named = call.body.get("findings")
    found = await quarantine.release(call.conn, run_id, call.agent.name, reason, digests=named)
    await call.audit("run.released", f"run:{run_id}", reason=reason, findings=[_told(each) for each in found])
    run = await runs.find(call.conn, run_id)
    return accepted(
        call, presentation.run(run), "the run goes on, and what was released of it passes the gate"
    )


async def refuse(call: Call) -> Answer:
    """Leave a blocked run blocked for good."""
    run_id = run_id_of(call)
    reason = await _reason(call, run_id)
    found = await quarantine.refuse(call.conn, run_id, call.agent.name, reason)
    details = {"reason": reason, "findings": [_told(each) for each in found]}
    await call.audit("run.release_refused", f"run:{run_id}", **details)
    return Answer(presentation.run(await runs.find(call.conn, run_id)))


async def _reason(call: Call, run_id: UUID) -> str:
    """The reason as it may be stored. Raises GateBlocked."""
    run = await runs.find(call.conn, run_id)
    held = call.resources
    pardon, given = held.allowed.pardon(run["task_id"]), call.body["reason"]
    reason: str = await door.admit(
        held.metrics,
        given,
        door.floor(held.settings),
        "the reason",
        pardon,
        ask=held.ask,
        task_id=run["task_id"],
    )
    return reason


def _told(finding: Row) -> dict[str, Any]:
    """A finding as the audit log names it: what and where, and the digest, nothing of the value."""
    names = ("step", "item", "direction", "category", "kind", "family", "rule", "pointer", "digest")
    return {name: finding[name] for name in names if finding.get(name) is not None}


OPERATIONS = (
    Operation(
        "GET", "/quarantine", listing, "runs", "List blocked runs that can be released", {200: "HeldRunPage"},
        scope="run:read",
        query=(
            Parameter("status", STATUS, "Only those; `all` for every one."),
            Parameter("task_id", {"type": "string", "format": "uuid"}, "Only runs of this task."),
            Parameter("run_id", {"type": "string", "format": "uuid"}, "Only this run."),
            CURSOR,
            LIMIT,
        ),
    ),
    Operation(
        "POST", "/runs/{id}/release", release, "runs", "Release a blocked run", {202: "Accepted"},
        scope=RELEASE, body="Release", keyed=True, errors=(400, 404, 409, 422),
    ),
    Operation(
        "POST", "/runs/{id}/refuse", refuse, "runs", "Refuse to release a blocked run", {200: "Run"},
        scope=RELEASE, body="Refusal", keyed=True, errors=(400, 404, 409, 422),
    ),
)  # fmt: skip
