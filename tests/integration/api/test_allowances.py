"""Marks of false positives: made with the scope, kept as digests, in effect at the door at once, taken back."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from engine.db import Connection
from tests.factories import one
from tests.integration.api.clients import client

PATH = "/reflex/allowances"
EMAIL = "ada@example.org"
EVENT = {"topic": "mail.in", "payload": {"from": EMAIL}}
TASK = {
    "apiVersion": "duework/v1",
    "kind": "Pipeline",
    "title": "mail",
    "schedule": {"manual": True},
    "reflex": {"pii": "block"},
    "params": {"to": "nobody"},
    "steps": [{"id": "a", "uses": "core.echo", "with": {"message": "${params.to}"}}],
}


async def mark(api: httpx2.AsyncClient, **given: Any) -> httpx2.Response:
    """Mark a false positive, with a reason unless one is given."""
    return await api.post(PATH, json={"reason": "test data"} | given)


async def test_a_value_is_kept_as_a_digest_alone(api: httpx2.AsyncClient, conn: Connection) -> None:
    """The mark, its audit line and the answer hold neither the value nor what would lead to it."""
    made = await mark(api, value=EMAIL, reason=f"{EMAIL} is ours")
    assert made.status_code == 201, made.text
    body = made.json()
    assert (body["form"], body["pattern"], body["status"]) == ("value", None, "standing")
    assert body["reason"] == "[EMAIL] is ours"
    assert (await api.get(made.headers["location"])).json() == body
    rows = await one(conn, "SELECT string_agg(a::text, ' ') FROM duework.allowance a")
    audit = await one(
        conn, "SELECT string_agg(a::text, ' ') FROM duework.audit_log a WHERE action = 'allowance.made'"
    )
    for text in (rows, audit, made.text):
        assert "ada" not in text
    assert "system-agent" in audit


async def test_a_mark_counts_at_once_and_until_it_is_revoked(
    api: httpx2.AsyncClient, conn: Connection
) -> None:
    """What the door redacted passes once it is marked, and is redacted again when the mark is taken back."""

    async def stored() -> Any:
        answer = await api.post("/events", json=EVENT)
        assert answer.status_code == 202
        return await one(conn, "SELECT payload ->> 'from' FROM duework.event ORDER BY id DESC LIMIT 1")

    assert await stored() == "[EMAIL]"
    made = await mark(api, value=EMAIL, kind="email")
    assert await stored() == EMAIL
    assert (await api.delete(made.headers["location"])).status_code == 204
    assert (await api.delete(made.headers["location"])).status_code == 204
    assert await stored() == "[EMAIL]"
    lines = await one(conn, "SELECT count(*) FROM duework.audit_log WHERE action = 'allowance.revoked'")
    assert lines == 1
    listed = (await api.get(PATH, params={"status": "revoked"})).json()["items"]
    assert [each["revoked_by"] for each in listed] == ["system-agent"]


async def test_what_names_an_event_and_a_tool_that_is_tried(api: httpx2.AsyncClient) -> None:
    """An event's id that looks like personal data, and the input of a single call, pass once they are marked."""
    named = EVENT | {"id": EMAIL}
    assert (await api.post("/events", json=named)).status_code == 400
    await mark(api, value=EMAIL)
    assert (await api.post("/events", json=named)).status_code == 202
    tried = await api.post("/tools/core.echo/test", json={"input": {"to": EMAIL}})
    assert (tried.json()["status"], tried.json()["output"]) == ("succeeded", {"to": EMAIL})


async def test_a_mark_of_one_task_is_that_tasks_alone(api: httpx2.AsyncClient) -> None:
    """Its parameters and its definition pass, by the task's id and name; another's do not."""
    for name in ("mail", "other"):
        assert (await api.post("/tasks", json=TASK | {"name": name})).status_code == 201
    run = {"params": {"to": EMAIL}}
    assert (await api.post("/tasks/mail/run_now", json=run)).status_code == 400
    assert (await mark(api, value=EMAIL, task="mail")).json()["task"] == "mail"
    assert (await api.post("/tasks/mail/run_now", json=run)).status_code == 200
    assert (await api.post("/tasks/other/run_now", json=run)).status_code == 400
    assert (await api.patch("/tasks/mail", json=run)).status_code == 200
    assert (await api.patch("/tasks/other", json=run)).status_code == 400
    assert len((await api.get(PATH, params={"task": "mail"})).json()["items"]) == 1
    assert (await api.get(PATH, params={"task": "other"})).json()["items"] == []


async def test_a_mark_ends_by_the_databases_clock(api: httpx2.AsyncClient, conn: Connection) -> None:
    """One that has expired is in the list, and lets nothing pass."""
    made = await mark(api, value=EMAIL, expires_in="30d")
    assert made.json()["expires_at"] is not None
    await conn.execute(
        "UPDATE duework.allowance SET created_at = now() - interval '2 days', expires_at = now() - interval '1 s'"
    )
    other = await mark(
        api, pattern="build-[0-9]{10}", expires_at="2030-01-01T00:00:00Z"
    )  # which reads the list
    assert other.status_code == 201, other.text
    assert (await api.get(f"{PATH}/{made.json()['id']}")).json()["status"] == "expired"
    await api.post("/events", json=EVENT)
    assert await one(conn, "SELECT payload ->> 'from' FROM duework.event") == "[EMAIL]"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"pattern": ".*"}, "empty text"),
        ({"pattern": r"\S+@\S+", "kind": "email"}, "too wide"),
        ({"pattern": "(?=x)"}, "not RE2"),
        ({"pattern": r"ada@example\.org"}, "allow the value instead"),
        ({"value": f"write to {EMAIL}"}, "give that alone"),
        ({"value": EMAIL, "kind": "e-mail"}, "no kind or family"),
        ({"value": EMAIL, "expires_in": "11y"}, "not a duration"),
        ({"value": EMAIL, "expires_in": "20000d"}, "within 3653 days"),
        ({"value": EMAIL, "expires_at": "2020-01-01T00:00:00Z"}, "it ends from now on"),
        ({}, "exactly one of value and pattern"),
        ({"value": EMAIL, "pattern": "x"}, "exactly one of value and pattern"),
        ({"value": EMAIL, "reason": ""}, "reason"),
    ],
)
async def test_what_is_refused(api: httpx2.AsyncClient, given: dict[str, Any], told: str) -> None:
    """Too wide patterns, values that are none, and ends out of reach; the answer never quotes the value."""
    answer = await mark(api, **given)
    assert answer.status_code == 422
    assert told in answer.text
    assert "ada" not in answer.text


async def test_it_takes_the_scope(app: Starlette, api: httpx2.AsyncClient) -> None:
    """An agent without reflex:loosen neither marks, sees nor revokes; an unknown task or mark is not found."""
    await api.post("/agents", json={"name": "a", "scopes": ["task:write", "reflex:use"]})
    token = (await api.post("/agents/a/credentials")).json()["token"]
    async with client(app, {"Authorization": f"Bearer {token}"}) as other:
        assert (await mark(other, value=EMAIL)).status_code == 403
        assert (await other.get(PATH)).status_code == 403
    assert (await mark(api, value=EMAIL, task="nobody")).status_code == 404
    assert (await api.delete(f"{PATH}/00000000-0000-7000-8000-000000000000")).status_code == 404
    assert (await api.get(f"{PATH}/none")).status_code == 404
