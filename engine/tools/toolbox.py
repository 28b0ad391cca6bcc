"""The toolbox: one process's live tools, from the catalog's addresses to functions that can be called."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import groupby

from engine import settings as settings_
from engine.db import Pool
from engine.errors import Problem, ToolRejected
from engine.gate.asking import Ask
from engine.settings import Settings
from engine.tools.builtin import core
from engine.tools.builtin.duework import DueworkTools
from engine.tools.builtin.email import EmailTools
from engine.tools.builtin.files import FileTools
from engine.tools.builtin.llm import LlmTools
from engine.tools.builtin.sql import SqlTools
from engine.tools.builtin.waiting import WaitingTools
from engine.tools.calls import Answer, Arguments, Call, Tool
from engine.tools.children.command import CommandTools
from engine.tools.children.processes import Processes
from engine.tools.children.python import PythonTools
from engine.tools.entry import ToolEntry
from engine.tools.http.client import HttpTools
from engine.tools.limits.limiter import Limiter, open_limiter
from engine.tools.mcp.client import McpTools
from engine.tools.transports import Transport

CORE: Mapping[str, Tool] = {
    "core.echo": core.echo,
    "core.transform": core.transform,
    "core.fail": core.fail,
}
"""Builtins that need no database: what the executor can run by itself."""


class Builtins:
    """The transport of functions within this process, found by the entry's endpoint."""

    def __init__(self, functions: Mapping[str, Tool]) -> None:
        self.functions = functions

    async def call(self, entry: ToolEntry, arguments: Arguments, call: Call) -> Answer:
        """The function's answer. Raises ToolRejected where it is not there."""
        function = self.functions.get(entry.endpoint)
        if function is None:
            raise ToolRejected(f"{entry.address} needs a database, which is not there")
        return await function(arguments, call)

    async def close(self) -> None:
        """Functions hold nothing; what they are made of is closed by who made it."""


class Toolbox:
    """Calls tools by their catalog entry."""

    def __init__(self, transports: Mapping[str, Transport], limiter: Limiter | None = None) -> None:
        self.transports = transports
        self.limiter = limiter

    async def call(self, entry: ToolEntry, arguments: Arguments, call: Call) -> Answer:
        """The tool's answer, unchecked. Raises ToolError classes, Parked, or TimeoutError."""
        transport = self.transports[entry.transport]
        if entry.patience and self.limiter is not None:
            return await self.limiter.call(entry, arguments, call, transport.call)
        return await transport.call(entry, arguments, call)

    async def faults(self, entries: Iterable[ToolEntry]) -> list[Problem]:
        """What keeps tools from being called on this host: functions that cannot be imported, programs not there."""
        found = []
        for transport, given in groupby(sorted(entries, key=_transport), key=_transport):
            live = self.transports[transport]
            if isinstance(live, PythonTools | CommandTools):
                found += await live.faults(list(given))
        return found

    async def drift(self, entries: Iterable[ToolEntry]) -> list[Problem]:
        """What servers say of their tools now, where that is not what the catalog says. Asks them over the network."""
        live = self.transports["mcp"]
        assert isinstance(live, McpTools)
        return await live.drift([entry for entry in entries if entry.transport == "mcp"])


def _transport(entry: ToolEntry) -> str:
    return entry.transport


@asynccontextmanager
async def open_toolbox(
    settings: Settings, pool: Pool | None, ask: Ask | None = None
) -> AsyncIterator[Toolbox]:
    """The toolbox of one process; without a pool, tools that need the database are missing and limits are not kept.

    `ask` is the process's remote gate: task.run_now hands parameters over the threshold of another task.
    """
    processes = Processes()
    http = HttpTools(host.strip() for host in settings.http_allow.split(",") if host.strip())
    files = FileTools(settings.file_root, settings.max_output_bytes)
    sql = SqlTools(settings_.connections(settings), settings.max_output_bytes)
    functions: dict[str, Tool] = {
        **CORE,
        "http.request": http.request,
        "email.send": EmailTools(settings).send,
        "file.read": files.read,
        "llm.chat": LlmTools(settings, http.request).chat,
        "file.write": files.write,
    }
    if pool is not None:
        own = DueworkTools(pool, settings, ask)
        functions |= {"event.publish": own.publish, "task.run_now": own.run_now}
        waiting = WaitingTools(pool)
        functions |= {"core.sleep": waiting.sleep, "core.wait_event": waiting.wait_event}
        functions |= {"core.approval": waiting.approval}
        functions |= {"sql.query": sql.query, "sql.execute": sql.execute}
    transports: dict[str, Transport] = {
        "builtin": Builtins(functions),
        "http": http,
        "mcp": McpTools(settings, processes),
        "python": PythonTools(settings, processes),
        "command": CommandTools(settings, processes),
    }
    async with AsyncExitStack() as stack:
        stack.push_async_callback(sql.close)
        stack.push_async_callback(processes.close)
        for transport in transports.values():
            stack.push_async_callback(transport.close)
        limiter = None
        if pool is not None:
            limiter = await stack.enter_async_context(open_limiter(pool, settings.lease_seconds))
        yield Toolbox(transports, limiter)
