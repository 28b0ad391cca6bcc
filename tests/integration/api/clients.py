"""Clients of an application in this process; every answer they get is held against the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import httpx2
from starlette.applications import Starlette

from api import openapi, schemas
from api.main import create_app
from api.operations import Operation
from api.routes import operations
from engine import db
from engine.contract import Contract, compile_schema
from engine.settings import Settings
from engine.store import agents

LOOPBACK = ("127.0.0.1", 50_000)
SYSTEM = {"Authorization": "Bearer system-agent"}


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Starlette]:
    """The application with its lifespan."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


def client(
    app: Starlette, headers: Mapping[str, str] | None = None, *, peer: tuple[str, int] = LOOPBACK
) -> httpx2.AsyncClient:
    """A client that calls from the address `peer`."""
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app, client=peer),
        base_url="http://127.0.0.1:8080",
        headers=dict(headers or {}),
        event_hooks={"response": [_hold_to_contract]},
    )


async def token_for(app: Starlette, *scopes: str, name: str = "tester") -> dict[str, str]:
    """The Authorization header of a new agent with these scopes."""
    async with db.transaction(app.state.resources.pool) as conn:
        row = await agents.create(conn, name, scopes)
        token = await agents.add_token(conn, row["id"])
    return {"Authorization": f"Bearer {token}"}


def operation_of(method: str, path: str) -> Operation | None:
    """The operation that a request means, if there is one."""
    inner = re.sub("^/v1(?=/|$)", "", path).rstrip("/") or "/"
    for each in operations():
        pattern = re.sub(r"{\w+}", "[^/]+", each.path)
        if each.method == method and re.fullmatch(pattern, inner):
            return each
    return None


async def _hold_to_contract(response: httpx2.Response) -> None:
    request = response.request
    operation = operation_of(request.method, request.url.path)
    if operation is None:
        return
    await response.aread()
    status = response.status_code
    described = {*operation.answers, *openapi.statuses(operation)}
    assert status in described, (
        f"{operation.label} answered {status}, which is not described: {response.text}"
    )
    assert response.headers["x-request-id"]
    name = operation.answers.get(status, "Problem")
    kind = response.headers.get("content-type", "")
    if name is None:
        assert not response.content, f"{operation.label} {status} should have no body"
    elif "json" in kind:
        faults = _contract(name).check(response.json())
        assert not faults, (
            f"{operation.label} {status} is not a {name}: {faults[:3]} in {response.text[:600]}"
        )


@cache
def _contract(name: str) -> Contract:
    return compile_schema(schemas.bundle(name))


def pipeline(name: str = "job", **members: Any) -> dict[str, Any]:
    """A definition in format v1."""
    steps = [{"id": "only", "uses": "core.echo", "with": {"text": "hello"}}]
    given = {"schedule": {"manual": True}, "steps": steps} | members
    return {"apiVersion": "duework/v1", "kind": "Pipeline", "name": name, **given}
