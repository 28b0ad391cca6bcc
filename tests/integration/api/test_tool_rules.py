"""What a catalog entry says about its input holds when a definition is stored: kinds by place, and secrets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from engine.settings import Settings
from tests.factories import document, step
from tests.integration.api.clients import SYSTEM, client, running

MAIL: dict[str, Any] = {"to": ["ops@fastmail.com"], "subject": "done", "text": "All is well."}


@pytest.fixture
async def api(settings: Settings, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """The system agent's client of an application whose catalog has a tool with secrets of its own."""
    entry = (
        "{address: crm.contacts, transport: http, endpoint: 'https://crm.example.com/', secrets: [CRM_TOKEN], "
        "input_schema: {}, output_schema: {}}"
    )
    (tmp_path / "crm.yaml").write_text(entry, encoding="utf-8")
    async with (
        running(Settings(**{**_members(settings), "catalog": tmp_path})) as app,
        client(app, SYSTEM) as made,
    ):
        yield made


def _members(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in Settings.__slots__}


async def test_an_address_passes_where_one_must_stand(api: httpx2.AsyncClient) -> None:
    """And is stored as it is; the same address in the text is refused, at its place."""
    stored = await api.post("/tasks", json=document("mail", [step("a", "email.send", with_=MAIL)]))
    assert stored.status_code == 201, stored.text
    assert "ops@fastmail.com" in stored.text
    told = MAIL | {"text": "Write to ops@fastmail.com"}
    refused = await api.post("/tasks", json=document("told", [step("a", "email.send", with_=told)]))
    assert (refused.status_code, refused.json()["code"]) == (400, "gate_blocked")
    assert [each["pointer"] for each in refused.json()["errors"]] == ["/steps/0/with/text"]
    elsewhere = document("echo", [step("a", "core.echo", with_=MAIL)])
    assert (await api.post("/tasks", json=elsewhere)).json()["code"] == "gate_blocked"


async def test_a_secret_that_is_none_of_the_tools_is_refused(api: httpx2.AsyncClient) -> None:
    """When the definition is stored, at its place; the tool's own is fine."""
    given = step("a", "crm.contacts", with_={"token": "${secrets.OTHER}"})
    refused = await api.post("/tasks", json=document("other", [given]))
    assert refused.status_code == 422
    (problem,) = [each for each in refused.json()["errors"] if each["code"] == "secret_not_allowed"]
    assert problem["pointer"] == "/steps/0/with/token"
    fine = step("a", "crm.contacts", with_={"token": "${secrets.CRM_TOKEN}"})
    assert (await api.post("/tasks", json=document("own", [fine]))).status_code == 201


async def test_the_catalog_shows_what_it_lets_pass(api: httpx2.AsyncClient) -> None:
    """The policy of an entry is JSON over REST."""
    shown = (await api.get("/tools/email.send")).json()
    assert shown["reflex"]["allow"]["/to"] == ["email"]
