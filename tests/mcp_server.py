"""A real MCP server for tests, made with the protocol's SDK: `python -m tests.mcp_server` speaks over stdio.

Over HTTP it runs in a thread of the test's own process. `legacy` refuses what came in 2026, so that clients shake
hands and have sessions, as with most servers that are out there.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND, ToolAnnotations
from starlette.types import Receive, Scope, Send


def made(notes: Path, *, legacy: bool) -> MCPServer:
    """The server; what happens to it is written into files in `notes`."""
    server = MCPServer("duework-test", version="1", log_level="CRITICAL")
    if legacy:
        server.middleware.append(_of_2025)

    @server.tool(annotations=ToolAnnotations(read_only_hint=True, title="Echo it"))
    def echo(value: str, context: Context) -> dict[str, Any]:
        """Answer with the value, and with what was said of the call."""
        return {"value": value, "meta": dict(context.request_context.meta or {}), "pid": os.getpid()}

    @server.tool(structured_output=False)
    def text(value: str) -> str:
        """Answer with text."""
        return value

    @server.tool()
    def fail(why: str) -> str:
        """Fail for a reason, in which a sign stands between all others where it would not be let in as it is."""
        raise ToolError(why.replace("§", ""))

    @server.tool()
    async def wait() -> str:
        """Wait until it is cancelled."""
        (notes / "waiting").touch()
        try:
            await anyio.Event().wait()
        finally:
            (notes / "cancelled").touch()
        return "waited"

    @server.tool()
    def die() -> str:
        """End the process."""
        print("the last words", file=sys.stderr, flush=True)
        os._exit(3)

    @server.tool()
    def spawn() -> int:
        """Start a process that ends by itself only much later."""
        quiet = subprocess.DEVNULL
        program = [sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN); signal.pause()"]
        return subprocess.Popen(program, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True).pid

    @server.tool()
    def environment() -> dict[str, str]:
        """The environment of the process."""
        return dict(os.environ)

    return server


async def _of_2025(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    if ctx.method == "server/discover":
        raise MCPError(METHOD_NOT_FOUND, "Method not found")
    return await call_next(ctx)


@dataclass(slots=True)
class Served:
    """A server over HTTP: `forgets` if it has sessions, and the headers of every request.

    What lies in `instead` is answered in the server's place: status, content type and body.
    """

    url: str
    notes: Path = Path()
    forgets: bool = False
    headers: list[dict[str, str]] = field(default_factory=list)
    instead: list[tuple[int, str, bytes]] = field(default_factory=list)


@contextmanager
def http_server(notes: Path, *, legacy: bool = False, json_response: bool = False) -> Iterator[Served]:
    """A streamable HTTP server on loopback."""
    inner = made(notes, legacy=legacy).streamable_http_app(json_response=json_response)
    served = Served("", notes, legacy)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return
        served.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        if not served.instead:
            await inner(scope, receive, send)
            return
        status, kind, body = served.instead.pop(0)
        headers = [(b"content-type", kind.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    listening = socket.create_server(("127.0.0.1", 0))  # who connects before it is started waits in its queue
    served.url = f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield served
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        listening.close()


if __name__ == "__main__":
    made(Path(sys.argv[1]), legacy=False).run()
