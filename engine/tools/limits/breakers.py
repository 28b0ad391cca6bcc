"""Circuit breakers on the side of the process: what it knows of each tool, and what it has seen.

A healthy tool costs no statement per call. Once a second the breakers of all tools are read, and what was seen is
written if it changes anything; so calls may still go to a tool for a second after another host has opened its breaker,
and no longer than STALE when the database is slow. What the process itself has seen counts for it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from engine import db, telemetry
from engine.db import Pool
from engine.errors import DueworkError, InputInvalid, LeaseLost, StoreUnavailable, ToolError, ToolUnavailable
from engine.limits import Breaker
from engine.store import limits
from engine.store.limits import Seen
from engine.tools.calls import Call
from engine.tools.entry import ToolEntry

STALE = 5.0
"""Seconds after which what was read no longer counts: the next call reads again."""
IDLE = 60.0
"""Seconds without a call to any tool with a breaker after which nothing is read any more."""
BUSY = timedelta(seconds=1)
"""When to come back while somebody else probes."""
GRACE = timedelta(seconds=10)
"""How much longer than its call a probe is claimed for."""


@dataclass(slots=True)
class View:
    """One tool: its breaker as it was read (`until` by the local clock), and what was seen since."""

    state: str = "closed"
    until: float = 0.0
    failures: int = 0
    unread: int = 0
    succeeded: bool = False
    breaker: Breaker = field(default_factory=Breaker)
    claiming: asyncio.Lock = field(default_factory=asyncio.Lock)


class Breakers:
    """The breakers of one process. `exchange` is called as a service."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.news = asyncio.Event()
        self._views: dict[str, View] = {}
        self._settling: dict[UUID, tuple[str, Breaker, bool | None]] = {}
        self._read = self._called = -STALE - IDLE
        self._exchanging = asyncio.Lock()
        self._rereading: asyncio.Task[None] | None = None
        self._log = telemetry.logger("tools.breakers")

    async def admit(self, entry: ToolEntry) -> View:
        """What is known of a tool. Raises ToolUnavailable with `retry_after` while its breaker is open."""
        loop = asyncio.get_running_loop()
        self._called = now = loop.time()
        if now - self._read > STALE:
            await self._reread()
            now = loop.time()
        view = self._views.setdefault(entry.name, View())
        if view.state != "closed" and now < view.until:
            raise _refusal(entry, view, timedelta(seconds=view.until - now))
        return view

    async def _reread(self) -> None:
        """Exchange once for all calls that find what was read too old."""
        if self._rereading is None:
            self._rereading = asyncio.get_running_loop().create_task(self.exchange())
            self._rereading.add_done_callback(self._reread_done)
        await asyncio.shield(self._rereading)

    def _reread_done(self, task: asyncio.Task[None]) -> None:
        self._rereading = None
        if not task.cancelled():
            task.exception()  # those who wait have it, if any still do

    @asynccontextmanager
    async def watch(self, entry: ToolEntry, breaker: Breaker, call: Call) -> AsyncIterator[None]:
        """See how a call ends; where the breaker was open for long enough, it is a probe, of which there is one."""
        view = await self.admit(entry)
        view.breaker = breaker
        probe = None if view.state == "closed" else await self._claim(entry, view, call)
        answer: bool | None = None  # a call that is canceled or parks says nothing
        try:
            yield
            answer = True
        except TimeoutError:
            answer = False
            raise
        except DueworkError as error:
            answer = answered(error)
            raise
        finally:
            self._ended(entry, view, probe, answer)

    async def _claim(self, entry: ToolEntry, view: View, call: Call) -> UUID | None:
        async with view.claiming:  # one of this process asks; what it is told counts for the others
            if view.state == "closed":
                return None
            left = view.until - asyncio.get_running_loop().time()
            if left > 0:
                raise _refusal(entry, view, timedelta(seconds=left))
            return await self._claimed(entry, view, call)

    async def _claimed(self, entry: ToolEntry, view: View, call: Call) -> UUID | None:
        probe = uuid4()
        async with db.connection(self.pool) as conn:
            ours = await limits.claim_probe(conn, entry.name, probe, ttl=call.timeout + GRACE)
        if not ours:
            await self.exchange()
            if view.state == "closed":  # the probe of another has closed it meanwhile
                return None
            view.until = max(view.until, asyncio.get_running_loop().time() + BUSY.total_seconds())
            raise _refusal(entry, view, BUSY)
        view.state = "half_open"
        view.until = asyncio.get_running_loop().time() + BUSY.total_seconds()
        return probe

    def _ended(self, entry: ToolEntry, view: View, probe: UUID | None, answer: bool | None) -> None:
        """Keep what was seen; it is written when it may change something."""
        if probe is not None:
            self._settling[probe] = (entry.name, view.breaker, answer)
            self.news.set()
        elif answer and (view.failures or view.unread):
            view.unread, view.succeeded = 0, view.failures > 0
        elif answer is False:
            view.unread += 1
            known = 0 if view.succeeded else view.failures
            if view.state == "closed" and known + view.unread >= view.breaker.failures:
                view.state = "open"
                view.until = asyncio.get_running_loop().time() + view.breaker.open_for.total_seconds()
                self.news.set()

    async def exchange(self) -> None:
        """Write what was seen, and read the breakers of all tools."""
        async with self._exchanging:
            now = asyncio.get_running_loop().time()
            if now - self._called > IDLE and not self._settling and not self._seen():
                return
            seen, settling = self._seen(), dict(self._settling)
            async with db.transaction(self.pool) as conn:
                states = {
                    probe: await limits.settle_probe(conn, tool, probe, breaker, succeeded=answer)
                    for probe, (tool, breaker, answer) in settling.items()
                }
                opened = await limits.report(conn, seen) if seen else []
                rows = await limits.breakers(conn)
            self._take_in(rows, seen)
            for probe, (tool, _, _) in settling.items():
                del self._settling[probe]
                self._tell(tool, states[probe])
            for tool in opened:
                self._tell(tool, "open")
            self._read = now

    def _seen(self) -> list[Seen]:
        return [
            Seen(tool, view.unread, view.succeeded, view.breaker)
            for tool, view in self._views.items()
            if view.unread or view.succeeded
        ]

    def _take_in(self, rows: list[dict[str, Any]], seen: list[Seen]) -> None:
        """What was read counts from now on, but for what was seen while it was written."""
        now = asyncio.get_running_loop().time()
        for one in seen:
            view = self._views[one.tool]
            view.unread = max(0, view.unread - one.failures)
            view.succeeded = False
        known: Mapping[str, dict[str, Any]] = {row["tool"]: row for row in rows}
        for tool in {*known, *self._views}:
            row, view = known.get(tool), self._views.setdefault(tool, View())
            view.state = row["state"] if row else "closed"
            view.failures = row["failures"] if row else 0
            view.until = now + row["wait"].total_seconds() if row and row["wait"] else 0.0

    def _tell(self, tool: str, state: str | None) -> None:
        if state == "open":
            self._log.warning("breaker.opened", tool=tool)
        elif state == "closed":
            self._log.info("breaker.closed", tool=tool)


def answered(error: DueworkError) -> bool | None:
    """Whether a tool that failed a call like this is alive: False for what may be better next time, None: not known."""
    if isinstance(error, LeaseLost | StoreUnavailable | InputInvalid):
        return None
    if error.retryable:
        return False
    return True if isinstance(error, ToolError) else None


def _refusal(entry: ToolEntry, view: View, rest: timedelta) -> ToolUnavailable:
    return ToolUnavailable(
        f"{entry.name} failed {(entry.breaker or Breaker()).failures} times in a row and is left alone for now",
        details={"breaker": view.state},
        retry_after=rest,
    )
