"""The edge: what every request passes, whatever its route.

It names the request, takes off `/v1` and a trailing slash, times and logs it once, and is the one place that
turns an unexpected exception into an answer. A plain ASGI middleware, so streams pass unbuffered.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from engine import reflex, telemetry
from engine.errors import Malformed
from engine.metrics import Metrics

REQUEST_ID = "x-request-id"
PREFIX = "/v1"
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}", re.ASCII)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_HARDENING = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Edge:
    """Wraps the application; `metrics` is the process's."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics
        self.log = telemetry.logger("api")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = _entered(scope)
        exchange = _Exchange(scope["state"]["request_id"], send)
        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
            began = time.perf_counter()
            try:
                await self._pass_on(scope, receive, exchange)
            finally:
                self._note(scope, exchange.status, time.perf_counter() - began)

    async def _pass_on(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        try:
            if "\x00" in scope["path"]:
                refusal = Malformed("the path holds the character U+0000")
                await problems.response(refusal, Request(scope))(scope, receive, exchange.send)
                return
            await self.app(scope, receive, exchange.send)
        except (
            Exception
        ):  # the API's one edge: a defect becomes an answer without internals, and one log line
            self.log.exception("api.failed", route=_route(scope))
            if exchange.status:
                raise  # the answer has begun; the server can only cut it off
            defect = problems.Failed(
                "something went wrong on our side; the log knows more under this request id"
            )
            await problems.response(defect, Request(scope))(scope, receive, exchange.send)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = _route(scope)
        self.metrics.http_requests.labels(method, route, str(status)).observe(seconds)
        agent = scope["state"].get("agent")
        self.log.info(
            "api.request", method=method, route=route, status=status, ms=round(seconds * 1000, 2), agent=agent
        )


class _Exchange:
    """The way out of one request: adds the headers that every answer has, and sees the status."""

    def __init__(self, request_id: str, send: Send) -> None:
        self.request_id = request_id
        self.status = 0
        self._send = send

    async def send(self, message: Message) -> None:
        """Pass an ASGI message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self.request_id
            for name, value in _HARDENING.items():
                headers.setdefault(name, value)
        await self._send(message)


def _entered(scope: Scope) -> Scope:
    """The scope with its request id, `/v1` moved to the root path, and no trailing slash."""
    path, root = scope["path"], scope.get("root_path", "")
    inner = path.removeprefix(root) if path.startswith(root) else path
    if inner == PREFIX or inner.startswith(f"{PREFIX}/"):
        root, inner = root + PREFIX, inner[len(PREFIX) :]
    inner = inner.rstrip("/") or "/"
    given = Headers(scope=scope).get(REQUEST_ID, "")
    kept = _ACCEPTED_ID.fullmatch(given) and reflex.mask(given) == given  # it is logged and stored as it is
    request_id = given if kept else f"req-{secrets.token_hex(8)}"
    state: dict[str, Any] = {**scope.get("state", {}), "request_id": request_id}
    return {**scope, "root_path": root, "path": root + inner, "state": state}


def _route(scope: Scope) -> str:
    route = scope.get("route")
    return route.path if route is not None else "unmatched"
