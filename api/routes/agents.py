"""/agents: who may call, with which scopes, and their tokens."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from api import presentation
from api.bodies import invalid, moment
from api.operations import Answer, Call, Operation
from engine import db, door, reflex
from engine.db import Row
from engine.errors import Problem
from engine.store import agents


async def create(call: Call) -> Answer:
    """Make an agent; its tokens are made by /agents/{id}/credentials."""
    _check_scopes(call.body["scopes"])
    await _judge(call)
    row = await agents.create(
        call.conn, call.body["name"], call.body["scopes"], webhook_url=call.body.get("webhook_url")
    )
    await call.audit("agent.created", f"agent:{row['id']}", name=row["name"], scopes=row["scopes"])
    return Answer(presentation.agent(row), 201, {"Location": call.link(f"/agents/{row['id']}")})


async def listing(call: Call) -> Answer:
    """All agents by name."""
    rows = await agents.page(call.conn)
    return Answer({"items": [presentation.agent(row) for row in rows]})


async def show(call: Call) -> Answer:
    """One agent: an admin sees all, any other itself."""
    return Answer(presentation.agent(await _visible(call)))


async def change(call: Call) -> Answer:
    """Change an agent's name, scopes, webhook or activity."""
    row = await agents.get(call.conn, call.path["id"])
    if "scopes" in call.body:
        _check_scopes(call.body["scopes"])
    await _judge(call)
    changed = await agents.change(call.conn, row["id"], **call.body) if call.body else row
    await call.audit("agent.changed", f"agent:{row['id']}", name=changed["name"], members=sorted(call.body))
    return Answer(presentation.agent(changed))


async def deactivate(call: Call) -> Answer:
    """Take an agent out of service and revoke its tokens; what it did stays on record."""
    row = await agents.get(call.conn, call.path["id"])
    await agents.change(call.conn, row["id"], active=False)
    revoked = await agents.revoke_tokens(call.conn, row["id"])
    await call.audit("agent.deactivated", f"agent:{row['id']}", name=row["name"], tokens=revoked)
    return Answer(None, 204)


async def add_credentials(call: Call) -> Answer:
    """Make a token; it is shown here and never again."""
    row = await agents.get(call.conn, call.path["id"])
    expires = _expiry(call.body.get("expires_at"), await db.clock(call.conn))
    label = reflex.mask(call.body.get("label", ""))
    token = await agents.add_token(call.conn, row["id"], label=label, expires_at=expires)
    await call.audit("agent.token_made", f"agent:{row['id']}", name=row["name"], label=label)
    body = {
        "agent_id": row["id"],
        "token": token,
        "token_type": "Bearer",
        "label": label,
        "expires_at": expires,
    }
    return Answer(body, 201)


async def revoke_credentials(call: Call) -> Answer:
    """Revoke every token of an agent."""
    row = await agents.get(call.conn, call.path["id"])
    revoked = await agents.revoke_tokens(call.conn, row["id"])
    await call.audit("agent.tokens_revoked", f"agent:{row['id']}", name=row["name"], tokens=revoked)
    return Answer({"agent_id": row["id"], "revoked": revoked})


async def _visible(call: Call) -> Row:
    ref = call.path["id"]
    if ref not in (str(call.agent.id), call.agent.name):
        call.agent.require("admin")
    return await agents.get(call.conn, ref)


async def _judge(call: Call) -> None:
    """An agent's words are stored, logged and answered as they are, so what would be redacted is refused. A webhook may
    name its host by address."""
    floor = door.floor(call.resources.settings)
    hosts = (("/webhook_url", frozenset({"ipv4", "ipv6"})),)
    policy = replace(floor, pii="block" if floor.pii == "redact" else floor.pii, at=hosts)
    resources = call.resources
    pardon = resources.allowed.pardon()
    await door.admit(resources.metrics, call.body, policy, "the agent", pardon, ask=resources.ask)


def _check_scopes(scopes: list[str]) -> None:
    unknown = agents.unknown_scopes(scopes)
    if unknown:
        known = ", ".join((*agents.SCOPES, "tool:<address or prefix.*>", "words.with.dots"))
        raise invalid(
            "the agent is not valid",
            [Problem("unknown_scope", f"one of the scopes is unknown; known are {known}", "/scopes")],
        )


def _expiry(text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    expires = moment(text, "/expires_at")
    if expires <= now:
        raise invalid("the token is not valid", [Problem("in_the_past", "expires_at is past", "/expires_at")])
    return expires


def _of_one(method: str, tail: str, handler: Any, summary: str, answers: Any, **more: Any) -> Operation:
    more = {"scope": "admin", "errors": (404,)} | more
    return Operation(method, f"/agents/{{id}}{tail}", handler, "agents", summary, answers, **more)


OPERATIONS = (
    Operation(
        "POST", "/agents", create, "agents", "Make an agent", {201: "Agent"},
        scope="admin", body="AgentNew", errors=(409, 422),
    ),
    Operation("GET", "/agents", listing, "agents", "List agents", {200: "Agents"}, scope="admin"),
    _of_one("GET", "", show, "Show an agent", {200: "Agent"}, scope=""),
    _of_one("PATCH", "", change, "Change an agent", {200: "Agent"}, body="AgentChange", errors=(404, 409, 422)),
    _of_one("PUT", "", change, "Change an agent (as PATCH)", {200: "Agent"}, body="AgentChange",
            errors=(404, 409, 422)),
    _of_one("DELETE", "", deactivate, "Take an agent out of service", {204: None}, errors=(404, 409)),
    _of_one("POST", "/credentials", add_credentials, "Make a token, shown once", {201: "Credential"},
            body="CredentialNew", body_required=False, errors=(404, 422)),
    _of_one("DELETE", "/credentials", revoke_credentials, "Revoke all tokens of an agent", {200: "Revoked"}),
)  # fmt: skip
