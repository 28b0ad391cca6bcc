"""/reflex/allowances: false positives that people have marked, which the gate lets pass from then on."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from api import cursors
from api.bodies import invalid, moment
from api.operations import CURSOR, LIMIT, Answer, Call, Operation, Parameter
from engine import db, reflex
from engine.db import Row
from engine.durations import parse_duration
from engine.errors import NotFound, Problem, StoreUnavailable, ValidationFailed
from engine.reflex.allowing import pattern_fault, value_digest, value_fault
from engine.reflex.edition import edition
from engine.store import allowances, gate_key, tasks
from engine.store.allowances import LONGEST, Mark


async def create(call: Call) -> Answer:
    """Mark a false positive; it counts in every process within seconds, and in this one at once."""
    kind = call.body.get("kind")
    known = edition().kinds | edition().families
    if kind is not None and kind not in known:
        raise _invalid(
            "unknown_kind", f"{kind!r} is no kind or family; known are {', '.join(sorted(known))}", "kind"
        )
    _check(call.body)
    task = await tasks.get(call.conn, call.body["task"]) if "task" in call.body else None
    mark = Mark(
        reflex.mask(call.body["reason"]),
        call.agent.name,
        digest=await _digest(call),
        pattern=call.body.get("pattern"),
        kind=kind,
        task_id=task["id"] if task else None,
        ends=await _end(call),
    )
    made = await allowances.add(call.conn, mark)
    await call.audit("allowance.made", f"allowance:{made['id']}", **_told(made))

    location = {"Location": call.link(f"/reflex/allowances/{made['id']}")}
    return _in_effect(call, Answer(made, 201, location))


async def listing(call: Call) -> Answer:
    """Marks, newest first."""
    place = cursors.decode(call.query["cursor"], call.query, UUID)
    task = await tasks.get(call.conn, call.query["task"]) if call.query["task"] else None
    rows = await allowances.page(
        call.conn,
        status=call.query["status"],
        task_id=task["id"] if task else None,
        before=place[0] if place else None,
        limit=call.query["limit"] + 1,
    )
    return Answer(cursors.page(rows, call.query, lambda row: (row["id"],), _as_it_is))


async def show(call: Call) -> Answer:
    """One mark."""
    return Answer(await allowances.get(call.conn, _ref(call)))


async def revoke(call: Call) -> Answer:
    """Take a mark back: what it let pass is judged again, within seconds."""
    ref = _ref(call)
    if not await allowances.revoke(call.conn, ref, call.agent.name):
        return Answer(None, 204)
    await call.audit("allowance.revoked", f"allowance:{ref}")

    return _in_effect(call, Answer(None, 204))


def _in_effect(call: Call, answer: Answer) -> Answer:
    """`answer`, once this process goes by the changed list; where it cannot be read now, it will be later."""

    async def follow() -> Answer:
        with suppress(StoreUnavailable):
            await call.resources.allowed.look()
        return answer

    return Answer(follow=follow)


def _check(body: dict[str, Any]) -> None:
    if "value" in body and (fault := value_fault(body["value"])):
        raise _invalid("not_found_as_a_whole", fault, "value")
    if "pattern" in body and (fault := pattern_fault(body["pattern"], body.get("kind"))):
        raise _invalid("pattern_refused", fault, "pattern")


async def _digest(call: Call) -> str | None:
    if "value" not in call.body:
        return None
    return value_digest(await gate_key.load(call.conn, call.resources.settings), call.body["value"])


async def _end(call: Call) -> datetime | timedelta | None:
    """When the mark ends, or after how long; bounded by the database's clock."""
    ends = _length(call.body["expires_in"]) if "expires_in" in call.body else None
    if "expires_at" in call.body:
        ends = moment(call.body["expires_at"], "/expires_at") - await db.clock(call.conn)
    if ends is None:
        return None
    member = "expires_at" if "expires_at" in call.body else "expires_in"
    if not timedelta(0) < ends <= LONGEST:
        raise _invalid("out_of_range", f"it ends from now on, and within {LONGEST.days} days", member)
    return ends if member == "expires_in" else moment(call.body["expires_at"], "/expires_at")


def _length(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValidationFailed as error:
        raise _invalid("wrong_form", error.message, "expires_in") from error


def _told(made: Row) -> dict[str, Any]:
    ends = made["expires_at"]
    members = {name: made[name] for name in ("task", "kind", "form", "pattern", "reason")}
    return members | {"expires_at": ends.isoformat() if ends else None}


def _invalid(code: str, detail: str, member: str) -> ValidationFailed:
    return invalid("the allowance is not valid", [Problem(code, detail, f"/{member}")])


def _ref(call: Call) -> UUID:
    try:
        return UUID(call.path["id"])
    except ValueError:
        raise NotFound(f"there is no allowance {call.path['id']!r}") from None


def _as_it_is(row: Row) -> dict[str, Any]:
    return row


def _of_one(method: str, handler: Any, summary: str, answers: Any) -> Operation:
    path = "/reflex/allowances/{id}"
    return Operation(method, path, handler, "reflex", summary, answers, scope="reflex:loosen", errors=(404,))


OPERATIONS = (
    Operation(
        "POST", "/reflex/allowances", create, "reflex", "Mark a false positive", {201: "Allowance"},
        scope="reflex:loosen", body="AllowanceNew", errors=(404, 409, 422),
    ),
    Operation(
        "GET", "/reflex/allowances", listing, "reflex", "List marks of false positives", {200: "AllowancePage"},
        scope="reflex:loosen", errors=(404,),
        query=(
            Parameter("status", {"type": "string", "enum": ["standing", "expired", "revoked"]}, "Only these."),
            Parameter("task", {"type": "string", "minLength": 1, "maxLength": 200}, "Only marks for this task."),
            CURSOR,
            LIMIT,
        ),
    ),
    _of_one("GET", show, "Show a mark", {200: "Allowance"}),
    _of_one("DELETE", revoke, "Take a mark back", {204: None}),
)  # fmt: skip
