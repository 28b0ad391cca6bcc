"""The door of an API that asks a remote gate: what the gate finds is refused, and while it is away nothing comes in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from engine.db import Connection
from engine.retry import RetryPolicy
from engine.settings import Settings
from tests.factories import one
from tests.integration.api.clients import SYSTEM, client, pipeline, running
from tests.unit.gate.scripted import Server, finding, scripted

GOOD = {"topic": "cards", "payload": {"text": "all is well"}}
DOORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a definition": ("POST", "/tasks", pipeline("other")),
    "several": ("POST", "/apply", pipeline("other")),
    "a change": ("PATCH", "/tasks/job", {"description": "all is well"}),
    "parameters": ("POST", "/tasks/job/run_now", {"params": {"text": "all is well"}}),
    "an event": ("POST", "/events", GOOD),
    "an agent": ("POST", "/agents", {"name": "somebody", "scopes": ["task:read"]}),
}
KEPT = """SELECT (SELECT count(*) FROM duework.task_version) + (SELECT count(*) FROM duework.event)
  + (SELECT count(*) FROM duework.due_work) + (SELECT count(*) FROM duework.agent)"""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other without seconds between them."""
    quick = timedelta(milliseconds=1)
    monkeypatch.setattr("engine.gate.client.RETRY", RetryPolicy(max_attempts=4, delay=quick, max_delay=quick))


@asynccontextmanager
async def asking(settings: Settings, gate: Server) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an API that asks this gate, whose name has to be looked up."""
    url = gate.url.replace("127.0.0.1", "localhost")
    async with running(replace(settings, reflex_url=url)) as app, client(app, SYSTEM) as api:
        yield api


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS.keys())
async def test_while_the_gate_is_away_nothing_comes_in(
    door: tuple[str, str, dict[str, Any]], settings: Settings, api: httpx2.AsyncClient, conn: Connection
) -> None:
    """503, when to come again, and nothing is kept; with the gate back the same is taken."""
    method, path, body = door
    await api.post("/tasks", json=pipeline())
    before = await one(conn, KEPT)
    async with scripted(finding()) as gate:
        pass
    async with asking(settings, gate) as asker:
        answer = await asker.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "gate_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    assert await one(conn, KEPT) == before
    async with scripted(finding()) as back, asking(settings, back) as asker:
        assert (await asker.request(method, path, json=body)).is_success
        assert back.texts
    assert await one(conn, KEPT) > before


async def test_what_the_gate_finds_in_a_definition_is_refused_with_its_place(settings: Settings) -> None:
    """Admission waits for it in a thread; the verdict is made here."""
    async with scripted(finding(("library_card", 0, 4))) as gate, asking(settings, gate) as asker:
        answer = await asker.post("/tasks", json=pipeline())
    assert (answer.status_code, answer.json()["code"]) == (400, "gate_blocked")
    assert {each["code"] for each in answer.json()["errors"]} == {"library_card"}


async def test_many_definitions_at_once_wait_for_a_gate_whose_name_is_looked_up(settings: Settings) -> None:
    """As many as may be admitted at once: they do not take the threads in which asyncio looks names up."""
    async with scripted(finding()) as gate, asking(replace(settings, pool_size=8), gate) as asker:
        answers = await asyncio.gather(
            *(asker.post("/tasks", json=pipeline(f"job-{number}")) for number in range(8))
        )
    assert {answer.status_code for answer in answers} == {201}
