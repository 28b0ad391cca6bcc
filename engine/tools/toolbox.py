"""The toolbox: one process's live tools, from the catalog's addresses to functions that can be called."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from engine import settings as settings_
from engine.db import Pool
from engine.errors import ToolRejected
from engine.settings import Settings
from engine.tools.builtin import core
from engine.tools.builtin.duework import DueworkTools
from engine.tools.builtin.sql import SqlTools
from engine.tools.calls import Arguments, Call, Tool
from engine.tools.http import HttpTools
from engine.tools.registry import ToolEntry

CORE: Mapping[str, Tool] = {
    "core.echo": core.echo,
    "core.transform": core.transform,
    "core.fail": core.fail,
    "core.sleep": core.sleep,
}
"""Builtins that need no database: what the executor can run by itself."""


class Toolbox:
    """Calls tools by their catalog entry."""

    def __init__(self, http: HttpTools, builtins: Mapping[str, Tool]) -> None:
        self.http = http
        self.builtins = builtins

    async def call(self, entry: ToolEntry, arguments: Arguments, call: Call) -> Any:
        """The tool's answer, unchecked. Raises ToolError classes, Parked, or TimeoutError."""
        if entry.transport == "http":
            return await self.http.call_endpoint(entry, arguments, call)
        tool = self.builtins.get(entry.endpoint)
        if tool is None:
            raise ToolRejected(f"{entry.address} needs a database, or its transport is not available here")
        return await tool(arguments, call)


@asynccontextmanager
async def open_toolbox(settings: Settings, pool: Pool | None) -> AsyncIterator[Toolbox]:
    """The toolbox of one process; without a pool, the tools that need the database are missing."""
    http = HttpTools(host.strip() for host in settings.http_allow.split(",") if host.strip())
    sql = SqlTools(settings_.connections(settings))
    builtins: dict[str, Tool] = {**CORE, "http.request": http.request}
    if pool is not None:
        own = DueworkTools(pool)
        builtins |= {"event.publish": own.publish, "task.run_now": own.run_now}
        builtins |= {"sql.query": sql.query, "sql.execute": sql.execute}
    try:
        yield Toolbox(http, builtins)
    finally:
        await sql.close()
        await http.close()
