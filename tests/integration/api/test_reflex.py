"""The gate as a service: whatever text JSON can carry gets an answer that says where in it things are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.applications import Starlette

from tests.integration.api.clients import client, token_for

MAIL = "zoe.quick" + "@" + "fastmail.com"


@pytest.fixture
async def gate(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that may ask the gate, and nothing else."""
    async with client(app, await token_for(app, "reflex:use")) as made:
        yield made


@pytest.mark.parametrize(
    "before",
    ["a\0\nb: ", "grün 😀 ", "\ud800 half \udfff ", '"\\ \x07', "x" * 400_000 + " ", "\x01" * 400_000 + " "],
    ids=["nul", "wide", "surrogates", "quotes", "long", "escapes"],
)
async def test_places_are_code_points_of_the_text_as_it_came(gate: httpx2.AsyncClient, before: str) -> None:
    """Signs that no database stores, that take several bytes, or whose JSON is longer than they are."""
    asked = json.dumps({"text": f"{before}{MAIL}"})
    answer = await gate.post("/reflex/process", content=asked, headers=JSON)
    assert answer.status_code == 200, answer.text[:500]
    body = answer.json()
    assert body["characters"] == len(before) + len(MAIL)
    found = [match for match in body["pii_matches"] if match["pii_type"] == "email"]
    assert [(match["position"], match["end"]) for match in found] == [(len(before), len(before) + len(MAIL))]
    assert found[0]["rule"].startswith("email")
    assert MAIL not in answer.text


async def test_what_is_no_question_is_refused_with_its_reason(gate: httpx2.AsyncClient) -> None:
    """A text that is too long, a body that is, one that is no JSON, and members that nobody knows."""
    refused = [
        (await gate.post("/reflex/process", json={"text": "x" * 1_000_001}), 422),
        (await gate.post("/reflex/process", content=b"[" * 100_000, headers=JSON), 400),
        (await gate.post("/reflex/process", content=b'{"text": "x"', headers=JSON), 400),
        (await gate.post("/reflex/process", content=b" " * (8 << 20) + b"{}", headers=JSON), 413),
        (await gate.post("/reflex/process", json={"text": "x", "who": 1}), 422),
        (await gate.get("/tasks"), 403),
    ]
    assert [answer.status_code for answer, _ in refused] == [status for _, status in refused]


JSON = {"content-type": "application/json"}
