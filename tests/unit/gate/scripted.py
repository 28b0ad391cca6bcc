"""A real server on loopback that answers each request as the test says, byte by byte if need be."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Step = Callable[[str, asyncio.StreamWriter], Awaitable[bool]]
"""Answers a text; whether the connection may be used again."""


@dataclass(slots=True)
class Server:
    """`steps` answer the requests to come, the last of them all that follow."""

    url: str
    steps: list[Step]
    texts: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0

    def next_step(self) -> Step:
        return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]


@asynccontextmanager
async def scripted(*steps: Step, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """The server while the block runs."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        open_.append(writer)
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        try:
            while await one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        body = await reader.readexactly(int(headers["content-length"]))
        server.headers.append({":start": head[0], **headers})
        server.texts.append(json.loads(body)["text"])
        again = await server.next_step()(server.texts[-1], writer)
        await writer.drain()
        return again

    open_: list[asyncio.StreamWriter] = []
    under_way: set[asyncio.Task[None]] = set()
    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server = Server(f"{'https' if tls else 'http'}://127.0.0.1:{port}", list(steps))
    try:
        yield server
    finally:
        listener.close()
        for writer in open_:
            writer.transport.abort()  # who waits for the end of a connection goes on; nobody is cancelled
        if under_way:
            await asyncio.wait(under_way, timeout=60)


def judged(text: str, *pii: tuple[str, int, int]) -> dict[str, Any]:
    """A right answer that finds such (kind, start, end)."""
    found = [
        {"pii_type": kind, "position": start, "end": end, "confidence": 0.9, "rule": "far.away"}
        for kind, start, end in pii
    ]
    nothing = {"injection_detected": False, "injection_matches": []}
    status = "Blocked" if found else "Success"
    return {
        "status": status, "characters": len(text), "pii_detected": bool(found), "pii_matches": found, **nothing,
    }  # fmt: skip


def finding(*pii: tuple[str, int, int]) -> Step:
    """A right answer, whatever is asked."""

    async def step(text: str, writer: asyncio.StreamWriter) -> bool:
        writer.write(response(json.dumps(judged(text, *pii)).encode()))
        return True

    return step


def saying(data: bytes, *, again: bool = False) -> Step:
    """These bytes, and the end of the connection."""

    async def step(_text: str, writer: asyncio.StreamWriter) -> bool:
        writer.write(data)
        return again

    return step


def answering(status: int, body: bytes = b"{}", **headers: str) -> Step:
    """A whole response of this status."""
    return saying(response(body, status, **headers), again=True)


def response(body: bytes, status: int = 200, **headers: str) -> bytes:
    """Head and body; `content_type` and the like replace what is usual."""
    named = {"content-type": "application/json", "content-length": str(len(body))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def silent(_text: str, writer: asyncio.StreamWriter) -> bool:
    """No answer, as long as the client waits."""
    await writer.wait_closed()
    return False


async def stalling(_text: str, writer: asyncio.StreamWriter) -> bool:
    """An answer that stops in the middle, and never ends."""
    writer.write(response(b'{"status": "Succ', content_length="1000"))
    await writer.wait_closed()
    return False
