"""`duework mcp serve`: duework as an MCP server over stdio, for an agent that starts it as a program."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import httpx2

from engine.errors import NotFound
from ops.cli.output import say
from ops.cli.remote import PATIENCE, Server, Token, target

if TYPE_CHECKING:
    from api.mcp.server import Asked  # the SDK is an extra

LONGEST = 60  # seconds that a call may ask the API to wait


def serve(server: Server = None, token: Token = None) -> None:
    """Speak MCP over standard input and output: list, write, run and watch tasks with the token's scopes.

    The API itself serves the same at /mcp, over HTTP.
    """
    if find_spec("mcp") is None:
        raise NotFound("the MCP SDK is not installed here: install duework[mcp]")
    asyncio.run(_serve(server, token))


async def _serve(server: str | None, token: str | None) -> None:
    from mcp.server.stdio import stdio_server

    from api.mcp.server import made

    given = target(server, token)
    timeout = PATIENCE + LONGEST
    async with httpx2.AsyncClient(
        base_url=given.url, headers=given.headers, trust_env=not given.local, timeout=timeout
    ) as client:

        async def send(_: Any, asked: Asked) -> httpx2.Response:
            try:
                return await client.request(
                    asked.method, asked.path, params=asked.query, content=asked.content, headers=asked.headers
                )
            except httpx2.TransportError as error:
                detail = f"no answer from {given.url}: {error}. Start one with `duework up`"
                return httpx2.Response(503, json={"code": "server_unreachable", "detail": detail})

        # What the token allows is the API's to say, at each call: it may change while this runs.
        served = made(send, lambda _, __: True, version("duework"))
        say(f"serving MCP over stdio, for the API at {given.url}")
        async with stdio_server() as (reading, writing):
            await served.run(reading, writing, served.create_initialization_options())
