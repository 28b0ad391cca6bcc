"""A resolver that tests write themselves, and a connection that must not be made."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any


def forbidden(*_: Any, **__: Any) -> None:
    """In the place of a connection."""
    raise AssertionError("a connection was attempted")


def resolving(
    names: dict[str, str | list[str]], asked: list[str] | None = None
) -> Callable[..., Awaitable[list[tuple[Any, ...]]]]:
    """A getaddrinfo that knows these names, and literals."""

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        if asked is not None:
            asked.append(host)
        found = names.get(host, host if host.replace(".", "").isdigit() else [])
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port))
            for one in ([found] if isinstance(found, str) else found)
        ]

    return getaddrinfo
