"""TLS through the guard: the certificate is checked for the name that was asked, not for the address connected to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest
import trustme

from engine.errors import ToolUnavailable
from engine.tools.calls import Call
from engine.tools.http import guard
from engine.tools.http.client import HttpTools
from tests.unit.tools.names import resolving

CALL = Call(UUID(int=7), "fetch", "run:fetch", fence=42, attempt=1, timeout=timedelta(seconds=30))
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def server(authority: trustme.CA, name: str) -> AsyncIterator[int]:
    """The port of a TLS server of that name; it answers whatever it is asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline() not in (b"\r\n", b""):
            pass
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context) as listening:
        yield listening.sockets[0].getsockname()[1]


async def test_the_certificate_is_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two names on one address: the one that the certificate has is reached, the other is not."""
    authority = trustme.CA()
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    monkeypatch.setattr(guard, "_authorities", lambda: trusted)
    names: dict[str, str | list[str]] = {"good.example": "127.0.0.1", "evil.example": "127.0.0.1"}
    tools = HttpTools(names)
    async with server(authority, "good.example") as port:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolving(names))
        answer = await tools.request({"url": f"https://good.example:{port}/"}, CALL)
        assert answer["body"] == "ok"
        with pytest.raises(ToolUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await tools.request({"url": f"https://evil.example:{port}/"}, CALL)
    await tools.close()
