"""MCP over streamable HTTP against real servers on loopback, of both eras of the protocol."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from engine.errors import OutputInvalid, ToolError, ToolRejected, ToolUnavailable
from engine.secrets import Secrets
from engine.settings import Settings
from engine.tools.calls import Call
from engine.tools.children.processes import Processes
from engine.tools.entry import ToolEntry
from engine.tools.mcp import streamable as mcp_http
from engine.tools.mcp.client import McpTools, meta_of
from engine.tools.mcp.server import server_of
from engine.tools.registry import parse_entry
from tests.mcp_server import Served, http_server
from tests.polling import poll_until

CALL = Call(UUID(int=7), "ask", "run:ask", fence=42, attempt=1, timeout=timedelta(seconds=60), item=3)
ANSWER = {"type": "object"}


@pytest.fixture(scope="module", params=["of 2026", "of 2025", "of 2025, JSON"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of each kind for the module; `notes` are where it writes."""
    legacy = request.param != "of 2026"
    with http_server(
        tmp_path_factory.mktemp("notes"), legacy=legacy, json_response="JSON" in request.param
    ) as served:
        yield served


@asynccontextmanager
async def opened(allow: str = "127.0.0.1") -> AsyncIterator[McpTools]:
    """A worker's tools; their sessions are closed at the end."""
    processes = Processes()
    tools = McpTools(Settings(http_allow=allow), processes)
    try:
        yield tools
    finally:
        await tools.close()
        await processes.close()


@pytest.fixture
async def tools() -> AsyncIterator[McpTools]:
    """Tools that may reach the loopback server."""
    async with opened() as made:
        yield made


def entry(served: Served, tool: Any, output: dict[str, Any] = ANSWER, **mcp: Any) -> ToolEntry:
    """A catalog entry of that server's tool."""
    members = {
        "address": "test.tool",
        "transport": "mcp",
        "endpoint": tool,
        "mcp": {"url": served.url, **mcp},
    }
    return parse_entry(members | {"input_schema": {}, "output_schema": output}, "test.yaml")


async def test_a_call_and_what_is_said_of_it(server: Served, tools: McpTools) -> None:
    """Arguments go in, the structured answer comes out; identity, fence and trace stand in `_meta`."""
    answer = await tools.call(entry(server, "echo"), {"value": "grüezi"}, CALL)
    assert answer["value"] == "grüezi"
    assert answer["meta"].items() >= meta_of(CALL).items()
    assert answer["meta"]["duework/idempotency-key"] == "run:ask"
    assert answer["meta"]["traceparent"] == CALL.traceparent


async def test_one_session_serves_calls_at_once(server: Served, tools: McpTools) -> None:
    """A hundred calls over one session, each with its own answer."""
    asked = entry(server, "echo")
    await tools.call(asked, {"value": "first"}, CALL)
    begun = len(server.headers)
    answers = await asyncio.gather(*(tools.call(asked, {"value": str(n)}, CALL) for n in range(100)))
    assert [answer["value"] for answer in answers] == [str(n) for n in range(100)]
    assert len(server.headers) - begun <= 101  # a GET for messages of the server's own may be among them


@pytest.mark.parametrize(
    ("tool", "output", "given", "expected"),
    [
        ("text", {"type": "string"}, "plain", "plain"),
        ("text", {"type": "object", "properties": {"a": {}}}, '{"a": [1]}', {"a": [1]}),
        ("text", {"type": "array"}, "[1]", [1]),
        ("text", {}, "plain", {"content": [{"type": "text", "text": "plain"}]}),
        ("text", {"type": "object"}, "{}", {"content": [{"type": "text", "text": "{}"}]}),
    ],
)
async def test_the_schema_says_what_text_is(
    server: Served, tools: McpTools, tool: str, output: dict[str, Any], given: str, expected: Any
) -> None:
    """Text is text, JSON, or a block of content, as the entry's output_schema asks."""
    assert await tools.call(entry(server, tool, output), {"value": given}, CALL) == expected


async def test_refusals_are_told_apart(server: Served, tools: McpTools) -> None:
    """An error of the tool, arguments that do not fit, an unknown tool, and text that is no JSON."""
    with pytest.raises(ToolRejected, match="the reason"):
        await tools.call(entry(server, "fail"), {"why": "the reason"}, CALL)
    with pytest.raises(ToolRejected):
        await tools.call(entry(server, "echo"), {}, CALL)
    with pytest.raises(ToolRejected, match="nobody"):
        await tools.call(entry(server, "nobody"), {}, CALL)
    with pytest.raises(OutputInvalid, match="is not JSON"):
        await tools.call(entry(server, "text", {"type": "array"}), {"value": "["}, CALL)


async def test_a_cancelled_call_is_cancelled_there(
    server: Served, tools: McpTools, notes: Callable[[], Path]
) -> None:
    """The server hears of it, and the session goes on."""
    running = asyncio.create_task(tools.call(entry(server, "wait"), {}, CALL))
    await poll_until(lambda: (notes() / "waiting").exists())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await poll_until(lambda: (notes() / "cancelled").exists())
    assert (await tools.call(entry(server, "echo"), {"value": "on"}, CALL))["value"] == "on"


@pytest.fixture
def notes(server: Served) -> Callable[[], Path]:
    """Where the server writes; empty at the beginning."""
    for name in ("waiting", "cancelled"):
        (server.notes / name).unlink(missing_ok=True)
    return lambda: server.notes


async def test_the_guard_holds_for_servers_too(server: Served) -> None:
    """A loopback server is refused unless the operator or the entry allows it."""
    async with opened(allow="") as tools:
        with pytest.raises(ToolRejected, match="private or local"):
            await tools.call(entry(server, "echo"), {"value": ""}, CALL)
        assert not tools._sessions or all(one.over for one in tools._sessions.values())
        allowed = replace(entry(server, "echo"), allow_hosts=("127.0.0.1",))
        assert (await tools.call(allowed, {"value": "in"}, CALL))["value"] == "in"


async def test_headers_hold_secrets_and_follow_their_rotation(server: Served, tools: McpTools) -> None:
    """A secret is put in when a session is opened; a new value opens a new one."""
    held = {"T": "first-token"}
    asked = entry(server, "echo", headers={"authorization": "Bearer ${secrets.T}"})
    for value in ("first-token", "second-token"):
        held["T"] = value
        call = replace(CALL, secrets=Secrets(held.get))
        await tools.call(asked, {"value": ""}, call)
        assert server.headers[-1]["authorization"] == f"Bearer {value}"
        assert call.secrets.conceal(f"it is {value}!") == "it is [SECRET:T]!"


REFUSED: list[tuple[int, str, bytes, type[ToolError], str]] = [
    (401, "text/html", b"<h1>log in</h1>", ToolRejected, "answered 401"),
    (401, "application/json", b'{"error": "log in"}', ToolRejected, "answered 401"),
    (503, "text/html", b"", ToolUnavailable, "answered 503"),
    (302, "text/html", b"", ToolUnavailable, ""),
    (200, "text/html", b"hello", ToolRejected, ""),
    (200, "application/json", b"{", OutputInvalid, "no JSON-RPC"),
    (200, "application/json", b'{"jsonrpc": "2.0", "id": 99, "result": {}}' + b" " * 99, ToolError, ""),
]


@pytest.mark.parametrize("answer", REFUSED[:6])
async def test_one_bad_answer_fails_one_call(
    server: Served, tools: McpTools, answer: tuple[int, str, bytes, type[ToolError], str]
) -> None:
    """Whatever stands between answers in the server's place; the session is as good as before."""
    asked = entry(server, "echo")
    await tools.call(asked, {"value": "before"}, CALL)
    await poll_until(lambda: not server.instead)
    status, kind, body, error, words = answer
    server.instead.append((status, kind, body))
    with pytest.raises(ToolError) as found:
        await tools.call(asked, {"value": "now"}, CALL)
    assert words in str(found.value)
    assert isinstance(found.value, error) or not words
    assert (await tools.call(asked, {"value": "after"}, CALL))["value"] == "after"


async def test_an_answer_that_cannot_be_read_is_not_quoted(server: Served, tools: McpTools) -> None:
    """Pieces of it would hold pieces of secrets, which nothing recognises."""
    asked = entry(server, "echo")
    await tools.call(asked, {"value": ""}, CALL)
    for kind, body in (
        ("application/json", b'["hush-hush-0f9a'),
        ("text/event-stream", b'data: ["hush-hush-0f9a\n\n'),
    ):
        server.instead.append((200, kind, body))
        with pytest.raises(OutputInvalid, match="no JSON-RPC message") as found:
            await tools.call(asked, {"value": ""}, CALL)
        assert "hush" not in str(found.value)


async def test_an_answer_without_end_is_cut_off(
    server: Served, tools: McpTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that is compressed is refused: what it would come to is not known."""
    asked = entry(server, "echo")
    await tools.call(asked, {"value": ""}, CALL)
    monkeypatch.setattr(mcp_http, "MAX_MESSAGE", 1000)
    server.instead.append((200, "application/json", json.dumps("x" * 2000).encode()))
    with pytest.raises(OutputInvalid, match="larger than 1000 bytes"):
        await tools.call(asked, {"value": ""}, CALL)
    server.instead.append((200, "application/json\r\ncontent-encoding: gzip", gzip.compress(b"{}")))
    with pytest.raises(ToolError):
        await tools.call(asked, {"value": ""}, CALL)


async def test_a_forgotten_session_is_opened_again(server: Served, tools: McpTools) -> None:
    """A 404 says that the server knows no such session, so nothing was done and the call is made anew."""
    asked = entry(server, "echo")
    await tools.call(asked, {"value": ""}, CALL)
    assert ("mcp-session-id" in server.headers[-1]) == server.forgets
    if not server.forgets:
        return  # servers of 2026 have no sessions
    server.instead.append((404, "text/plain", b""))
    assert (await tools.call(asked, {"value": "again"}, CALL))["value"] == "again"


async def test_nobody_there_is_asked_more_and_more_seldom(tools: McpTools) -> None:
    """Unavailable at once; then a pause that grows, said as retry_after, with the reason."""
    asked = entry(Served("http://127.0.0.1:1/mcp"), "echo")
    with pytest.raises(ToolUnavailable, match="ConnectError"):
        await tools.call(asked, {}, CALL)
    with pytest.raises(ToolUnavailable, match=r"tried again in .*ConnectError") as found:
        await tools.call(asked, {}, CALL)
    assert found.value.retry_after
    assert timedelta(0) < found.value.retry_after <= timedelta(seconds=0.5)


async def test_tools_that_changed_are_named(server: Served, tools: McpTools) -> None:
    """One that is as it was, one that changed, one that is gone, and a server that is away."""
    (listed,) = [tool for tool in await tools.tools(server_of(entry(server, "echo"))) if tool.name == "echo"]
    entries = [
        entry(server, {"tool": "echo", "listed": listed.digest}),
        entry(server, "echo"),
        entry(server, {"tool": "echo", "listed": "0123456789abcdef"}),
        entry(server, {"tool": "gone", "listed": listed.digest}),
        entry(Served("http://127.0.0.1:1/mcp"), "echo"),
    ]
    assert sorted(one.code for one in await tools.drift(entries)) == [
        "changed_tool",
        "missing_tool",
        "unreachable",
    ]
    assert (listed.title, listed.annotations) == ("Echo it", {"readOnlyHint": True})
