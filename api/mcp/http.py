"""`POST /mcp`: the MCP server over streamable HTTP, for agents that have a token of this API.

Stateless: each request stands for itself and brings its token, so any process behind a load balancer can answer it, and
no stream is held open. The SDK is loaded when somebody asks for the first time; it costs a second that most never need.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import httpx2
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from api import auth
from api.operations import Resources
from engine import db, reflex
from engine.errors import NotFound
from engine.store.agents import Agent

if TYPE_CHECKING:
    from api.mcp.server import Asked

PASSED_ON = (
    "authorization",
    "host",
    "origin",
    "forwarded",
    "x-forwarded-for",
    "x-real-ip",
    "x-forwarded-host",
)
"""What decides who calls; an inner request says the same of it as the outer one."""


INTERNAL_ERROR = -32603
"""JSON-RPC's code for what cannot be told better."""


class McpEndpoint:
    """The endpoint, an ASGI application. `open` holds what runs behind it while the API is up."""

    def __init__(self) -> None:
        self._manager: Any = None
        self._asked = asyncio.Lock()
        self._stop: asyncio.Event | None = None
        self._running: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """End, with the block, what a first request has begun."""
        try:
            yield
        finally:
            if self._running is not None and self._stop is not None:
                self._stop.set()
                await asyncio.wait([self._running])
            self._manager = self._running = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        resources: Resources = request.app.state.resources
        auth.bearer(request)
        async with db.transaction(resources.pool) as conn:
            agent = await auth.authenticate(conn, request, resources.settings)
        request.state.agent = agent.name
        request.state.mcp_agent = agent
        manager = await self._ready(resources)
        await manager.handle_request(scope, receive, _Masked(send))

    async def _ready(self, resources: Resources) -> Any:
        """The SDK's own handler of requests, started once. Raises NotFound where the SDK is not installed."""
        if find_spec("mcp") is None:
            raise NotFound("this API serves no MCP: install duework[mcp] where it runs")
        async with self._asked:
            if self._manager is None or self._running is None or self._running.done():
                server = await asyncio.to_thread(import_module, "api.mcp.server")
                managers = await asyncio.to_thread(import_module, "mcp.server.streamable_http_manager")
                made = managers.StreamableHTTPSessionManager(
                    server.made(_send, _allows, resources.version),
                    json_response=True,
                    stateless=True,
                    max_request_body_size=resources.settings.max_body_bytes,
                )
                self._stop, up = asyncio.Event(), asyncio.Event()
                self._running = asyncio.create_task(_held(made, up, self._stop))
                await up.wait()
                self._manager = made
        return self._manager


class _Masked:
    """The way out of one request: what the SDK says of an error quotes what was sent, so it is masked."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        """Hold the answer back until it is whole, and pass it on."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body.append(message.get("body", b""))
        if message.get("more_body") or self._start is None:
            return
        body = _masked(b"".join(self._body))
        MutableHeaders(raw=self._start["headers"])["content-length"] = str(len(body))
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body})


def _masked(body: bytes) -> bytes:
    """An answer without its error's private values; any other is as it was."""
    if b'"error"' not in body:
        return body
    try:
        answer = json.loads(body)
    except ValueError:
        return reflex.mask(body.decode("utf-8", "replace")).encode()
    if not isinstance(answer, dict) or "error" not in answer:
        return body
    told = reflex.cleaned(answer["error"])
    if not isinstance(told, dict):  # nothing of it may be told but that it is one
        told = {"code": INTERNAL_ERROR, "message": told}
    return json.dumps(answer | {"error": told}).encode()


async def _held(manager: Any, up: asyncio.Event, stop: asyncio.Event) -> None:
    """Keep the manager's tasks in one task of their own, from its start to its end, as structured tasks need it."""
    async with manager.run():
        up.set()
        await stop.wait()


def _allows(context: Any, scope: str) -> bool:
    agent: Agent = context.request.state.mcp_agent
    return agent.allows(scope)


async def _send(context: Any, asked: Asked) -> httpx2.Response:
    """The request, to this very application: it passes the edge and all checks like any other."""
    outer: Request = context.request
    headers = {name: value for name in PASSED_ON if (value := outer.headers.get(name)) is not None}
    headers["x-request-id"] = str(outer.state.request_id)
    peer = (outer.client.host, outer.client.port) if outer.client else ("", 0)
    transport = httpx2.ASGITransport(app=outer.app, client=peer)
    async with httpx2.AsyncClient(transport=transport, base_url="http://duework") as client:
        return await client.request(
            asked.method,
            asked.path,
            params=asked.query,
            content=asked.content,
            headers={**headers, **asked.headers},
        )
