"""/tools: what the catalog says of its tools, their breakers, and trying one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from engine.db import Connection
from engine.limits import Breaker
from engine.settings import Settings
from engine.store import limits
from engine.store.limits import Seen
from tests.integration.api.clients import client, token_for
from tests.polling import poll_until

ECHO = {"transport": "builtin", "endpoint": "core.echo", "input_schema": {}, "output_schema": {}}
LIMITED = ECHO | {
    "address": "my.echo",
    "version": 2,
    "scopes": ["my.echo"],
    "rate": {"limit": 10, "per": "1m"},
    "concurrency": 3,
    "breaker": {"failures": 2, "open_for": "1h"},
    "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
}


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Development mode, with a catalog of the test's own."""
    (tmp_path / "tools.json").write_text(json.dumps([LIMITED]), encoding="utf-8")
    return Settings(database_url=database_url, environment="development", catalog=tmp_path)


@pytest.fixture
async def guest(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that may call my.echo and nothing else."""
    token = await token_for(app, "tool:my.echo", "my.*", "tool:http.get", name="guest")
    async with client(app, token) as made:
        yield made


async def test_a_tool_shows_its_limits_and_its_breaker(api: httpx2.AsyncClient, conn: Connection) -> None:
    """By address and by version; the state is that of all hosts."""
    shown = (await api.get("/tools/my.echo@2")).json()
    assert shown == (await api.get("/tools/my.echo")).json()
    assert shown["rate"] == {"limit": 10, "per": 60, "burst": 10}
    assert (shown["version"], shown["concurrency"], shown["breaker_state"]) == ("2", 3, "closed")
    await limits.report(conn, [Seen("my.echo@2", 2, False, Breaker(2, timedelta(hours=1)))])
    items = {each["address"]: each for each in (await api.get("/tools")).json()["items"]}
    assert items["my.echo"]["breaker_state"] == "open"
    assert items["core.echo"]["breaker_state"] is None
    metrics = (await api.get("/metrics")).text
    assert 'duework_tool_breaker_open{tool="my.echo@2"} 1.0' in metrics


async def test_a_tool_can_be_tried(guest: httpx2.AsyncClient, api: httpx2.AsyncClient) -> None:
    """Through its schemas and the gate; the input is taken as it is, and the audit log says who tried."""
    answer = await guest.post("/tools/my.echo/test", json={"input": {"n": 1, "text": "${secrets.KEY}"}})
    body = answer.json()
    assert (answer.status_code, body["status"], body["tool"]) == (200, "succeeded", "my.echo@2")
    assert body["output"] == {"n": 1, "text": "${secrets.KEY}"}
    answer = await guest.post("/tools/my.echo/test", json={"input": {"text": "a@b.example.com"}})
    assert (answer.json()["status"], "a@b.example.com" in answer.text) == ("blocked", False)
    actions = [(line["actor"], line["subject"]) for line in (await api.get("/audit")).json()["items"]]
    assert ("guest", "tool:my.echo@2") in actions


@pytest.mark.parametrize(
    ("path", "given", "status"),
    [
        ("/tools/my.echo/test", {"input": {"n": "x"}}, 422),
        ("/tools/my.echo@3/test", {}, 404),
        ("/tools/core.echo/test", {}, 403),
        ("/tools/my.echo/test", {"inptu": {}}, 422),
    ],
)
async def test_a_trial_is_refused(guest: httpx2.AsyncClient, path: str, given: Any, status: int) -> None:
    """For an input that does not fit, a version that is not there, and a scope that the agent does not hold."""
    assert (await guest.post(path, json=given)).status_code == status


async def test_a_trial_that_fails_says_why(api: httpx2.AsyncClient) -> None:
    """A failure of the tool is an answer: the request itself went well."""
    answer = await api.post("/tools/core.fail/test", json={"input": {"message": "no"}})
    assert (answer.status_code, answer.json()["status"]) == (200, "failed")
    assert answer.json()["error"]["message"] == "no"


async def test_a_new_tool_is_there_without_a_restart(api: httpx2.AsyncClient, tmp_path: Path) -> None:
    """Definitions are checked against the folder as it is now; with a fault, as it was."""
    assert (await api.get("/tools/my.new")).status_code == 404
    (tmp_path / "more.json").write_text(json.dumps(ECHO | {"address": "my.new"}), encoding="utf-8")

    async def there() -> bool:
        return (await api.get("/tools/my.new")).status_code == 200

    await poll_until(there)
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")

    async def noticed() -> bool:
        return "duework_catalog_refused 1.0" in (await api.get("/metrics")).text

    await poll_until(noticed)
    assert await there()
