"""The MCP server over HTTP, driven by the protocol's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, RequestParamsMeta
from starlette.applications import Starlette
from starlette.routing import Route

from api.mcp import offers
from api.mcp.http import McpEndpoint
from api.mcp.server import KEY
from engine.contract import compile_schema
from engine.db import Connection
from tests.factories import one
from tests.integration.api.clients import SYSTEM, client, pipeline, token_for

URL = "http://127.0.0.1:8080/mcp"
PRIVATE = "ada@example.org"


@asynccontextmanager
async def agent(app: Starlette, headers: dict[str, str], **given: Any) -> AsyncIterator[Client]:
    """An agent that speaks MCP with this token."""
    async with (
        client(app, headers) as http,
        Client(streamable_http_client(URL, http_client=http), **given) as made,
    ):
        yield made


def told(result: CallToolResult) -> str:
    """What a call answered, as a model reads it."""
    (block,) = result.content
    assert block.type == "text"
    return block.text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_from_a_definition_to_its_run(app: Starlette, mode: Any) -> None:
    """Validate, create, run and look, as an agent would; the client holds each answer against its schema."""
    text = json.dumps(pipeline("by-agent"))
    async with agent(app, SYSTEM, mode=mode) as mcp:
        assert mcp.server_info is not None
        assert mcp.server_info.name == "duework"
        plan = await mcp.call_tool("validate_pipeline", {"definition": text})
        assert plan.structured_content is not None, told(plan)
        assert (await mcp.call_tool("list_tasks", {})).structured_content["items"] == []
        made = await mcp.call_tool("create_task", {"definition": pipeline("by-agent")})
        assert made.structured_content["name"] == "by-agent"
        run = await mcp.call_tool("run_task", {"task": "by-agent", "params": {"n": 1}, "wait_seconds": 1})
        run_id = run.structured_content["run_id"]
        found = await mcp.call_tool("get_run", {"run_id": run_id})
        assert found.structured_content["params"] == {"n": 1}
        listed = await mcp.call_tool("list_runs", {"task": "by-agent", "limit": 5})
        assert [each["run_id"] for each in listed.structured_content["items"]] == [run_id]
        ended = await mcp.call_tool("cancel_run", {"run_id": run_id, "reason": "enough"})
        assert not ended.is_error, told(ended)
        paused = await mcp.call_tool("pause_task", {"task": "by-agent"})
        assert paused.structured_content["status"] == "paused"


async def test_what_is_listed_is_what_the_token_allows(app: Starlette) -> None:
    """With annotations that say which change something; the rest is refused if it is called all the same."""
    reader = await token_for(app, "task:read", "run:read")
    async with agent(app, reader) as mcp:
        tools = {tool.name: tool for tool in (await mcp.list_tools()).tools}
        assert {"list_tasks", "get_run", "preview_schedule"} <= set(tools)
        assert not {"create_task", "run_task", "cancel_run", "publish_event"} & set(tools)
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools.values())
        refused = await mcp.call_tool("create_task", {"definition": pipeline()})
    assert refused.is_error
    assert told(refused).startswith("forbidden: ")
    assert "task:write" in told(refused)
    async with agent(app, SYSTEM) as mcp:
        assert [tool.name for tool in (await mcp.list_tools()).tools] == list(offers.by_name())


@pytest.mark.parametrize("offer", offers.OFFERS, ids=lambda offer: offer.name)
def test_each_offer_has_sound_schemas(offer: offers.Offer) -> None:
    """Of an object in and an object out; what an operation keeps from us is not in them."""
    for schema in (offers.taken(offer.name), offers.given(offer.name)):
        assert schema["type"] == "object"
        compile_schema(schema)
    assert offer.text.endswith(".")
    assert set(offer.query) <= {parameter.name for parameter in offer.operation.query}


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("get_run", {}, ["the arguments of get_run are not valid", "run_id"]),
        ("get_run", {"run_id": "x"}, ["not_found", "a UUID"]),
        ("get_task", {"task": "../agents"}, ["the arguments of get_task are not valid", "/task"]),
        ("get_task", {"task": "job/next"}, ["/task"]),
        ("get_run", {"run_id": "stats/summary"}, ["/run_id"]),
        ("get_task", {"task": "job/"}, ["/task"]),
        ("get_task", {"task": ".."}, ["/task"]),
        ("get_tool", {"address": "."}, ["/address"]),
        ("run_task", {"task": "job", "wait_seconds": 0}, ["/wait_seconds"]),
        ("run_task", {"task": "job", "params": {"to": PRIVATE}}, ["gate_blocked", "/to"]),
        ("run_task", {"task": "nobody"}, ["not_found", "duework task list"]),
        ("create_task", {"definition": "a: [", "extra": 1}, ["/extra"]),
        ("create_task", {"definition": "a: ["}, ["malformed"]),
        ("create_task", {"definition": pipeline(steps=[{"id": "a", "uses": "core.ech"}])}, ["core.echo"]),
        ("list_tasks", {"cursor": "x"}, ["malformed"]),
        ("list_task", {}, ["there is no tool 'list_task'"]),
    ],
)
async def test_errors_say_how_to_mend_them(
    app: Starlette, tool: str, arguments: dict[str, Any], words: list[str]
) -> None:
    """Each is a result that the model reads: what, where, and never a private value."""
    async with agent(app, SYSTEM) as mcp:
        await mcp.call_tool("create_task", {"definition": pipeline()})
        result = await mcp.call_tool(tool, arguments)
    assert result.is_error
    for word in words:
        assert word in told(result)
    assert PRIVATE not in told(result)


async def test_the_same_call_again_is_the_same_run(app: Starlette, conn: Connection) -> None:
    """A key in `_meta` is the request's idempotency key."""
    async with agent(app, SYSTEM) as mcp:
        await mcp.call_tool("create_task", {"definition": pipeline()})
        meta = cast(RequestParamsMeta, {KEY: "step-7"})
        first, again = [await mcp.call_tool("run_task", {"task": "job"}, meta=meta) for _ in range(2)]
    assert first.structured_content == again.structured_content
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 1


@pytest.mark.parametrize("key", ["\u00e9", "a b", "a\r\nX-Other: b", "", "x" * 256, 7])
async def test_a_key_that_is_none_is_refused(app: Starlette, conn: Connection, key: object) -> None:
    """Whatever stands there: nothing is done, as a repeat would do it twice."""
    async with agent(app, SYSTEM) as mcp:
        await mcp.call_tool("create_task", {"definition": pipeline()})
        result = await mcp.call_tool("run_task", {"task": "job"}, meta=cast(RequestParamsMeta, {KEY: key}))
    assert result.is_error
    assert "visible ASCII" in told(result)
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"jsonrpc": "2.0", "id": PRIVATE, "method": f"nothing/{PRIVATE}"}),
        (200, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": [PRIVATE]}}),
        (400, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": PRIVATE}),
        (400, [{"method": PRIVATE}]),
    ],
)
async def test_errors_of_the_protocol_are_masked(api: httpx2.AsyncClient, status: int, body: Any) -> None:
    """They would quote what was sent; the request's id is the caller's, and comes back as it is."""
    accept = {"Accept": "application/json, text/event-stream"}
    answer = await api.post("/mcp", json=body, headers=accept)
    assert answer.status_code == status, answer.text
    found = answer.json()
    assert found["error"]["message"]
    assert PRIVATE not in json.dumps(found["error"])
    assert found["id"] in (PRIVATE, 1, None)


async def test_the_endpoint_comes_up_again_after_its_end(app: Starlette, api: httpx2.AsyncClient) -> None:
    """Whatever ended what the SDK keeps running, the next request starts it anew."""
    (endpoint,) = [route.app for route in app.routes if isinstance(route, Route) and route.path == "/mcp"]
    assert isinstance(endpoint, McpEndpoint)
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"Accept": "application/json, text/event-stream"}
    for _ in range(2):
        async with endpoint.open():
            answers = await asyncio.gather(*(api.post("/mcp", json=body, headers=accept) for _ in range(3)))
            assert [answer.status_code for answer in answers] == [200] * 3


async def test_a_change_is_in_the_audit_log_under_the_agents_name(app: Starlette, conn: Connection) -> None:
    """With the id of the request that the agent made."""
    writer = await token_for(app, "task:write", "task:read", name="writer") | {"X-Request-ID": "trace-1"}
    async with agent(app, writer) as mcp:
        await mcp.call_tool("create_task", {"definition": pipeline()})
    told = "SELECT actor || ' ' || request_id FROM duework.audit WHERE action = 'task.created'"
    assert await one(conn, told) == "writer trace-1"


async def test_nobody_gets_in_without_a_token(app: Starlette, api: httpx2.AsyncClient) -> None:
    """A problem as everywhere; and no stream can be opened that nothing would ever come through."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"Accept": "application/json, text/event-stream"}
    async with client(app, accept) as stranger:
        answer = await stranger.post("/mcp", json=body)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        answer = await stranger.post("/mcp", json=body, headers={"Authorization": "Bearer dw_none"})
        assert answer.status_code == 401
        rebound = {"Host": "evil.example", "Authorization": "Bearer system-agent"}
        assert (await stranger.post("/mcp", json=body, headers=rebound)).status_code == 401
    assert (await api.get("/mcp")).status_code == 405
    assert (await api.post("/mcp", content=b"x" * 5_000_000, headers=accept)).status_code == 413
