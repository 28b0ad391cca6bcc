"""Promise (e) at the API: what the gate refuses there is in no table, no log line, and no answer."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import structlog
from starlette.applications import Starlette

from engine import reflex, telemetry
from engine.db import Connection
from engine.settings import Settings
from tests.chaos.test_canary import LOCAL, MAIL, everything
from tests.factories import document, step
from tests.integration.api.clients import SYSTEM, client, running

TOKEN = "dw_zq7canary-token-that-is-wrong-0123456789"
LINE = f"please write to {MAIL} at once"
YAML = {"content-type": "application/yaml"}


@pytest.fixture
def log(database_url: str) -> Any:
    """The process's log, written as JSON lines into memory."""
    stream = io.StringIO()
    settings = Settings(database_url=database_url, log_level="DEBUG", log_format="json")
    telemetry.configure(settings, reflex.mask, stream=stream)
    yield stream
    structlog.reset_defaults()


@pytest.fixture
async def app(database_url: str, log: io.StringIO) -> AsyncIterator[Starlette]:
    """The API in development mode."""
    async with running(Settings(database_url=database_url, environment="development")) as made:
        yield made


def definitions() -> list[dict[str, Any]]:
    """A canary in each part of a definition that is free text."""
    return [
        document(title=LINE),
        document(description=LINE),
        document(labels={"owner": MAIL}),
        document(params={"to": MAIL}),
        document(steps=[step("a", with_={"text": LINE})]),
        document(steps=[step("a", with_={LINE: 1})]),
        document(steps=[step("a", title=LINE)]),
        document(steps=[step("a", on_error={"value": LINE})]),
        document(on_failure=[step("z", with_={"text": LINE})]),
        document(output={"text": LINE}),
        document(concurrency={"key": MAIL}),
        document(params_schema={"type": "object", "description": LINE}),
        document(schedule={"event": {"topic": MAIL}}),
        document(MAIL),
        document(steps=[step("a", LINE)]),
        document(steps=[step(MAIL)]),
        document(schedule={"cron": LINE}),
        document() | {MAIL: 1},
    ]


async def knock(api: httpx2.AsyncClient) -> list[httpx2.Response]:
    """Bring the canary to every door of the API."""
    assert (await api.post("/tasks", json=document("fine", schedule={"every": "1h"}))).status_code == 201
    answers = [await api.post("/tasks", json=one) for one in definitions()]
    answers += [await api.put("/tasks/fine", json={**one, "name": "fine"}) for one in definitions()[:12]]
    yaml = f"apiVersion: duework/v1\nkind: Pipeline\nname: y\ntitle: {LINE}\nschedule: {{manual: true}}\nsteps: []\n"
    answers.append(await api.post("/tasks", content=yaml, headers=YAML))
    answers.append(await api.post("/tasks", content=f"{{not json {LINE}"))
    answers.append(await api.post("/tasks/fine/run_now", json={"params": {"to": MAIL}}))
    answers.append(await api.post("/tasks/fine/run_now", json={"params": {MAIL: {"deep": [LINE]}}}))
    for action in ("pause", "snooze", "cancel"):
        body = {"reason": LINE} | ({"seconds": 60} if action == "snooze" else {})
        answers.append(await api.post(f"/tasks/fine/{action}", json=body))
    answers.append(await api.post("/events", json={"topic": "t", "payload": {"to": MAIL}}))
    answers.append(await api.post("/events", json={"topic": MAIL, "payload": {}}))
    answers.append(await api.get(f"/tasks?q={quote(MAIL)}"))
    answers.append(await api.get(f"/tasks/{quote(MAIL)}"))
    answers.append(await api.get(f"/nowhere/{quote(MAIL)}"))
    answers.append(await api.get("/tasks", headers={"Authorization": f"Bearer {TOKEN}"}))
    answers.append(await api.get("/tasks", headers={"X-Request-ID": MAIL}))
    keyed = {"Idempotency-Key": MAIL}
    answers.append(await api.post("/tasks/fine/run_now", json={}, headers=keyed))
    return answers


async def test_the_canary_stays_outside(conn: Connection, app: Starlette, log: io.StringIO) -> None:
    """Refused with kinds and places, and found neither in a table nor in the log nor in the answers."""
    async with client(app, SYSTEM) as api:
        answers = await knock(api)
    refused = [answer for answer in answers if answer.status_code >= 400]
    assert len(refused) >= 25
    blocked = [answer for answer in refused if answer.json().get("code") == "gate_blocked"]
    assert len(blocked) >= 12
    stored = await everything(conn)
    for where, text in (("stored", stored), ("logged", log.getvalue())):
        place = text.find(LOCAL)
        assert place < 0, f"{where}: …{text[max(0, place - 300) : place + 80]}…"
    for answer in blocked:
        assert LOCAL not in answer.text
    assert json.loads(log.getvalue().splitlines()[-1])["event"]
