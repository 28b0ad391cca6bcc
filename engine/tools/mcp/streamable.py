"""An MCP server at a URL: streamable HTTP by the SDK, over connections that pass the guard.

The SDK ends a whole session when one request of it cannot be sent. Here such a request gets an answer instead, a
JSON-RPC error, so that it fails alone; and an answer's length is bounded before the SDK reads it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
from mcp.client.streamable_http import streamable_http_client

from engine.errors import DueworkError, OutputInvalid, ToolRejected, ToolUnavailable
from engine.tools.http.answer import BUSY, retry_after
from engine.tools.http.guard import GuardedTransport, Hosts, client_over, hosts
from engine.tools.mcp.server import Reached

UNREACHED = -32_077
"""Our code of a request that got no JSON-RPC answer; its data say the class: {code, retry_after}."""
MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message."""
_CONNECT, _SILENCE = 30.0, 3600.0  # seconds
_SESSION = "mcp-session-id"


@asynccontextmanager
async def streamable(reached: Reached, allowed: Hosts, on_end: Callable[[], None]) -> AsyncIterator[Any]:
    """The SDK's message streams; `on_end` is called when the server has forgotten the session."""
    transport = SessionTransport(allowed | hosts(reached.server.allow_hosts), on_end)
    async with client_over(transport) as client:
        client.headers.update(
            {**dict(reached.headers), "user-agent": "duework", "accept-encoding": "identity"}
        )
        client.timeout = httpx2.Timeout(_CONNECT, read=_SILENCE)
        async with streamable_http_client(
            reached.url, http_client=client, max_sse_event_size=MAX_MESSAGE
        ) as streams:
            yield streams


class SessionTransport(httpx2.AsyncBaseTransport):
    """Sends the requests of one session."""

    def __init__(self, allowed: Hosts, on_end: Callable[[], None]) -> None:
        # Kept open: what a server sends unasked is sorted out by the ids of JSON-RPC.
        self._guarded = GuardedTransport(allowed, idle=10)
        self._on_end = on_end

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer; a failure is one of status 502 that says why."""
        try:
            return await self._answer(request)
        except httpx2.TransportError as error:
            kind = ToolUnavailable(f"{type(error).__name__}: {error}".rstrip(": "))
            return _told(502, kind)
        except DueworkError as error:
            return _told(502, error)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._guarded.aclose()

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        async with AsyncExitStack() as stack:
            response = await self._guarded.handle_async_request(request)
            stack.push_async_callback(response.aclose)
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise OutputInvalid("the server compresses its answers, although it was asked not to")
            if response.status_code == 404 and _SESSION in request.headers:
                self._on_end()
            kind = response.headers.get("content-type", "").lower()
            if kind.startswith("text/event-stream") and response.status_code < 400:
                stack.pop_all()  # the SDK reads it to its end; each of its events is bounded there
                return response
            content = await _bounded(response)
        if response.status_code >= 400 and not (
            kind.startswith("application/json") and b'"jsonrpc"' in content
        ):
            return _told(response.status_code, _refused(response))
        return httpx2.Response(response.status_code, headers=_plain(response), content=content)


async def _bounded(response: httpx2.Response) -> bytes:
    chunks, size = [], 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > MAX_MESSAGE:
            raise OutputInvalid(f"the server's answer is larger than {MAX_MESSAGE} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _plain(response: httpx2.Response) -> list[tuple[str, str]]:
    """The headers without those of the framing, which is undone."""
    framing = ("content-length", "transfer-encoding", "connection")
    return [(name, value) for name, value in response.headers.multi_items() if name.lower() not in framing]


def _refused(response: httpx2.Response) -> DueworkError:
    """A status without JSON-RPC: a proxy's, a login's, or that of no MCP server at all."""
    status = response.status_code
    detail = f"the server answered {status}"
    if status in BUSY:
        return ToolUnavailable(detail, retry_after=retry_after(response.headers, datetime.now(UTC)))
    return ToolRejected(detail)


def _told(status: int, error: DueworkError) -> httpx2.Response:
    """An answer from which the caller of the tool makes the error again."""
    wait = error.retry_after.total_seconds() if error.retry_after is not None else None
    data = {"code": error.code, "retry_after": wait}
    told = {"code": UNREACHED, "message": error.message, "data": data}
    text = json.dumps({"jsonrpc": "2.0", "id": None, "error": told})
    return httpx2.Response(status, headers={"content-type": "application/json"}, content=text.encode())
