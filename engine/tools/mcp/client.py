"""Tools of transport mcp: one session per worker and server, opened when it is first needed.

Many calls go over one session at a time. A session that ends is opened anew by the next call, after a pause that
grows while nothing comes of it. What a server is told of a call beside its arguments stands in `_meta`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby
from typing import TYPE_CHECKING, Any

from engine import settings as settings_
from engine import telemetry
from engine.errors import DueworkError, Problem, ToolRejected, ToolUnavailable
from engine.secrets import Secrets
from engine.settings import Settings
from engine.tools.calls import Answer, Arguments, Call
from engine.tools.children.processes import Processes
from engine.tools.entry import ToolEntry
from engine.tools.http.guard import hosts
from engine.tools.mcp.answer import failure_of, value_of
from engine.tools.mcp.server import Listed, Reached, Server, reached, server_of, tool_of

if TYPE_CHECKING:
    from engine.tools.mcp.session import Session

IDLE = 600.0
"""Seconds after which a session that nobody uses is closed when another is opened."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
_LISTING = 60.0


class McpTools:
    """The sessions of one process."""

    def __init__(self, settings: Settings, processes: Processes) -> None:
        self.settings = settings
        self._allowed = hosts(settings.http_allow.split(","))
        self._processes = processes
        self._sessions: dict[Reached, Session] = {}
        self._setbacks: dict[Server, int] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._log = telemetry.logger("tools.mcp")

    async def call(self, entry: ToolEntry, arguments: Arguments, call: Call) -> Answer:
        """The tool's answer. Raises ToolRejected for one that says it is an error, and the tree's other classes.

        A session that the server had forgotten is opened anew and asked again: the call had not reached the tool.
        """
        target = reached(server_of(entry), call.secrets)
        for last in (False, True):
            session = await self._session(target, call.secrets)
            try:
                result = await session.call(tool_of(entry), arguments, meta_of(call), call.secrets)
                break
            except DueworkError:
                if last or not session.expired:
                    raise
        self._setbacks.pop(target.server, None)
        blocks = [block.model_dump(by_alias=True, mode="json", exclude_none=True) for block in result.content]
        if result.is_error:
            raise failure_of(blocks, call.conceal)
        return value_of(result.structured_content, blocks, entry.output_schema)

    async def tools(self, server: Server) -> list[Listed]:
        """What a server lists now. Raises classes of the error tree."""
        secrets = Secrets(partial(settings_.secret, settings=self.settings))
        try:
            async with asyncio.timeout(_LISTING):
                session = await self._session(reached(server, secrets), secrets)
                return await session.tools()
        except TimeoutError as error:
            raise ToolUnavailable(f"{server.name} did not list its tools within {_LISTING:.0f} s") from error

    async def drift(self, entries: Iterable[ToolEntry]) -> list[Problem]:
        """Servers that cannot be asked, tools that they no longer have, and those that changed since the import."""
        found: list[Problem] = []
        for server, given in groupby(sorted(entries, key=_order), key=server_of):
            try:
                listed = {tool.name: tool for tool in await self.tools(server)}
            except DueworkError as error:
                found += [_problem(entry, "unreachable", error.message) for entry in given]
                continue
            found += [problem for entry in given for problem in _drift(entry, listed.get(tool_of(entry)))]
        return found

    async def close(self) -> None:
        """Close every session; the programs of servers are gone afterwards."""
        await asyncio.gather(*(session.close() for session in self._sessions.values()), *self._ending)
        self._sessions.clear()

    async def _session(self, target: Reached, secrets: Secrets) -> Session:
        """The session of a server, a new one if there is none. Raises ToolUnavailable while it has to wait."""
        known = self._sessions.get(target)
        if known is None:
            # Beside the loop: the SDK takes seconds to import, in which leases would run out.
            await asyncio.to_thread(_import_sdk)
            known = self._sessions.get(target)
        if known is not None and not known.over:
            return known
        if known is not None:
            self._rest(target, known)
            self._part(target)
        self._sweep()
        made = self._sessions[target] = self._made(target, secrets)
        self._log.info("mcp.opening", server=target.server.name)
        return made

    def _made(self, target: Reached, secrets: Secrets) -> Session:
        from engine.tools.mcp import session as mcp_session
        from engine.tools.mcp import stdio as mcp_stdio
        from engine.tools.mcp import streamable as mcp_http

        if target.server.url:
            return mcp_session.Session(
                lambda session: mcp_http.streamable(target, self._allowed, session.expire), secrets
            )
        words = mcp_stdio.Words()

        return mcp_session.Session(
            lambda session: mcp_stdio.stdio(target, self._processes, words, session.end),
            secrets,
            words.last,
        )

    def _rest(self, target: Reached, ended: Session) -> None:
        """After a session that came to nothing the next one waits, longer each time."""
        if ended.proven or ended.expired:
            self._setbacks.pop(target.server, None)
            return
        count = self._setbacks.get(target.server, 0)
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(count, 16))
        left = ended.since + pause - asyncio.get_running_loop().time()
        if left > 0:
            raise ToolUnavailable(
                f"the MCP server {target.server.name} failed {count + 1} times in a row; it is tried again in "
                f"{left:.1f} s{ended.reason}",
                retry_after=timedelta(seconds=left),
            )
        self._setbacks[target.server] = count + 1

    def _sweep(self) -> None:
        """Part with sessions that nobody uses: those of a catalog or a secret that was replaced, above all."""
        now = asyncio.get_running_loop().time()
        for target, session in list(self._sessions.items()):
            if not session.calls and now - session.used_at > IDLE:
                self._part(target)

    def _part(self, target: Reached) -> None:
        """Close a session beside what goes on."""
        task = asyncio.get_running_loop().create_task(self._sessions.pop(target).close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _import_sdk() -> None:
    """The SDK is an extra: only who calls its tools has it, and waits for it. Raises ToolRejected without it."""
    if find_spec("mcp") is None:
        raise ToolRejected("the MCP SDK is not installed here: install duework[mcp]")
    import_module("engine.tools.mcp.session")
    import_module("engine.tools.mcp.stdio")


def meta_of(call: Call) -> dict[str, Any]:
    """`_meta` of a call: the trace as the protocol names it, the rest under our own prefix."""
    meta: dict[str, Any] = {
        "traceparent": call.traceparent,
        "duework/idempotency-key": call.idempotency_key,
        "duework/fence": call.fence,
        "duework/run-id": str(call.run_id),
        "duework/step": call.step,
        "duework/attempt": call.attempt,
    }
    return meta if call.item is None else meta | {"duework/item": call.item}


def _order(entry: ToolEntry) -> str:
    return repr(server_of(entry))


def _problem(entry: ToolEntry, code: str, text: str) -> Problem:
    return Problem(code, f"{entry.source}: {entry.address}: {text}", "/endpoint")


def _drift(entry: ToolEntry, listed: Listed | None) -> Iterable[Problem]:
    name = tool_of(entry)
    if listed is None:
        return [_problem(entry, "missing_tool", f"the server has no tool {name} any more")]
    imported = entry.endpoint.get("listed") if isinstance(entry.endpoint, dict) else None
    if imported is None or imported == listed.digest:
        return []
    text = "its schemas changed on the server since it was imported: look at them, and import it again"
    return [_problem(entry, "changed_tool", text)]
