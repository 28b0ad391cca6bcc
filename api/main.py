"""The API process: the application is built from its settings, and served until it is told to stop.

`create_app` opens nothing; the application's lifespan opens the pool and reads the catalog. `uvicorn
api.main:app` works as well: `app` is made when it is first asked for.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import migrations
from api import auth, openapi, parameters, problems, schemas
from api.edge import Edge
from api.endpoint import endpoint
from api.mcp.http import McpEndpoint
from api.operations import Operation, Resources
from api.routes import operations
from engine import db, reflex, settings, telemetry
from engine.contract import Contract, compile_schema
from engine.errors import Conflict, DueworkError, StoreUnavailable
from engine.gate.client import open_gate
from engine.metrics import Metrics
from engine.reflex.proof import prepare
from engine.service import Service, ended, stop_signals
from engine.settings import EMBEDDED, Settings
from engine.store.allowances import LOOK_EVERY as READ_EVERY
from engine.store.allowances import AllowList
from engine.tools.registry import Catalog
from engine.tools.reload import LOOK_EVERY, LiveCatalog

GRACE = 10
"""Seconds that requests under way get when the server is told to stop."""


def create_app(given: Settings, *, metrics: Metrics | None = None) -> Starlette:
    """The application. Its lifespan raises StoreUnavailable, ValidationFailed (catalog) or Conflict (host)."""
    measured = metrics or Metrics()
    mcp = McpEndpoint()
    app = Starlette(
        routes=[*_routes(), Route("/mcp", mcp, methods=["POST"])],
        middleware=[Middleware(Edge, metrics=measured)],
        exception_handlers={HTTPException: _framework_refused, DueworkError: _refused},
        lifespan=_lifespan(given, measured, mcp),
    )
    app.router.redirect_slashes = False
    return app


async def serve(given: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then let requests under way finish.

    Raises what the lifespan of the application raises, and Conflict when the address cannot be listened on.
    """
    app = create_app(given)
    log = telemetry.logger("api")
    with _server_log(log):
        async with app.router.lifespan_context(app):
            listener = _listener(given)
            host, port = listener.getsockname()[:2]
            log.info("api.started", host=host, port=port)
            await _Server(_server_config(app)).serve(sockets=[listener])


def _routes() -> list[Route]:
    paths: dict[str, dict[str, Operation]] = {}
    for operation in operations():
        paths.setdefault(operation.path, {})[operation.method] = operation
    return [Route(path, endpoint(each), methods=list(each)) for path, each in paths.items()]


def _lifespan(
    given: Settings, metrics: Metrics, mcp: McpEndpoint
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if given.database_url == EMBEDDED:
            raise StoreUnavailable("set DUEWORK_DATABASE_URL, or let `duework up` start an embedded database")
        prepare(given)
        catalog = LiveCatalog(given, metrics)
        async with (
            db.pool(given, "api") as pool,
            open_gate(given, metrics) as gate,
            _threads(given) as threads,
            mcp.open(),
        ):
            if not given.loopback:
                async with db.transaction(pool) as conn:
                    await auth.require_credentials(conn, given)
            number = version("duework")
            allowed = AllowList(given, pool)
            await allowed.look()
            app.state.resources = Resources(
                given,
                pool,
                catalog.current,
                metrics,
                _contracts(),
                migrations.head(),
                number,
                openapi.document(number),
                allowed,
                threads,
                gate,
            )

            def take_over(new: Catalog) -> None:
                """Requests that begin from now on see the new one; each keeps what it began with."""
                app.state.resources = replace(app.state.resources, catalog=new)

            catalog.changed = take_over
            async with _looking(catalog, allowed):
                yield

    return lifespan


@asynccontextmanager
async def _looking(catalog: LiveCatalog, allowed: AllowList) -> AsyncIterator[None]:
    """Look at what changes beside the requests while the block runs."""
    services = [
        Service("api.catalog", catalog.look, LOOK_EVERY),
        Service("api.allowances", allowed.look, READ_EVERY),
    ]
    looking = [asyncio.create_task(service.run()) for service in services]
    try:
        yield
    finally:
        await ended(looking)


@asynccontextmanager
async def _threads(given: Settings) -> AsyncIterator[ThreadPoolExecutor]:
    """As many as requests can be admitting at once: each holds a connection. None is waited for in the end: it may be
    waiting for what this loop would do next, and is let go when the loop ends."""
    threads = ThreadPoolExecutor(given.pool_size, "admission")
    try:
        yield threads
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _contracts() -> dict[str, Contract]:
    """The contracts of bodies by schema, and of query strings by operation."""
    found: dict[str, Contract] = {}
    for operation in operations():
        found[operation.label] = parameters.contract_of(operation.query)
        if operation.body and not operation.definitions:
            found[operation.body] = compile_schema(schemas.bundle(operation.body))
    return found


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, DueworkError)
    return problems.response(error, request)


async def _framework_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problems.response(problems.of_http(error), request, error.headers)


def _listener(given: Settings) -> socket.socket:
    """The socket that the server will listen on, bound."""
    family = socket.AF_INET6 if ":" in given.host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on sockets that name their protocol; without it every answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((given.host, given.port))
    except (OSError, OverflowError) as error:  # the latter for a port beyond 65535
        listener.close()
        reason = getattr(error, "strerror", None) or error
        where = f"{given.host}:{given.port}"
        raise Conflict(f"cannot listen on {where}: {reason}; choose another DUEWORK_PORT") from error
    return listener


def _server_config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",  # `serve` holds the lifespan open itself, so that its errors reach the caller as they are
        log_config=None,
        access_log=False,
        proxy_headers=False,  # the client's address decides about the development token: only the peer's own counts
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )


class _Server(uvicorn.Server):
    """uvicorn's server with signals handled by the loop; its own way raises them again after a clean end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with stop_signals(lambda: self.handle_exit(signal.SIGTERM, None)):
            yield


@contextmanager
def _server_log(log: Any) -> Iterator[None]:
    """uvicorn's own warnings as events of ours while the block runs."""

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            log.warning("api.failed", error=record.getMessage(), exc_info=record.exc_info)

    source, handler = logging.getLogger("uvicorn.error"), Forward(logging.WARNING)
    propagate, level = source.propagate, source.level
    source.addHandler(handler)
    source.propagate = False
    source.setLevel(logging.WARNING)
    try:
        yield
    finally:
        source.removeHandler(handler)
        source.propagate = propagate
        source.setLevel(level)


def __getattr__(name: str) -> Any:
    """`app`, for `uvicorn api.main:app`: built from the environment when it is asked for."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    given = settings.load()
    telemetry.configure(given, reflex.mask)
    telemetry.capture()
    return create_app(given)
