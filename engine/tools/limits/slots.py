"""Concurrency on the side of the process: numbers below a tool's limit, taken for calls and passed on among them.

A call that ends hands its number to the next that waits here, or comes within SPARE, without a statement, for a second
at most: then others get their turn. Numbers are prolonged while they are held. A call whose number could not be
prolonged in time is broken off, since somebody else may hold it by now.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from engine import db
from engine.db import Pool
from engine.errors import ToolUnavailable
from engine.store import limits
from engine.store.limits import Slot
from engine.tools.calls import Parked
from engine.tools.entry import ToolEntry

SHARE = 1.0
"""Seconds after which a number goes back to all hosts rather than to the next call here."""
SPARE = 0.05
"""Seconds for which a number that no call here waits for is kept for the next."""
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two questions for a number."""
SOONEST, LATEST = timedelta(seconds=1), timedelta(minutes=1)
"""A call that got none comes back after as long as the holders have held theirs, within these bounds."""


@dataclass(slots=True, eq=False)
class Hold:
    """A number that this process holds until `deadline` by the local clock; `guard` ends the call that uses it."""

    slot: Slot
    taken: float
    deadline: float
    guard: asyncio.Timeout | None = None


class Slots:
    """The numbers of one process. `renew` and `give_back` are called as a service."""

    def __init__(self, pool: Pool, holder: str, ttl: timedelta) -> None:
        self.pool = pool
        self.holder = holder
        self.ttl = ttl
        self.held: set[Hold] = set()
        self._lines: defaultdict[str, deque[asyncio.Future[Hold]]] = defaultdict(deque)
        self._spare: defaultdict[str, list[Hold]] = defaultdict(list)
        self._freed: list[Slot] = []
        self._asking: set[asyncio.Task[timedelta]] = set()
        self.news = asyncio.Event()

    @asynccontextmanager
    async def hold(self, entry: ToolEntry, limit: int, patience: timedelta) -> AsyncIterator[None]:
        """Hold a number during the block. Raises Parked without one, ToolUnavailable when it was lost meanwhile."""
        hold = await self._take(entry.name, limit, patience)
        try:
            async with asyncio.timeout_at(hold.deadline) as hold.guard:
                yield
        except TimeoutError as error:
            if not hold.guard or not hold.guard.expired():
                raise
            raise ToolUnavailable(
                f"{entry.name}: the call was broken off because its turn could not be prolonged in time"
            ) from error
        finally:
            hold.guard = None
            self._pass_on(hold)

    async def _take(self, tool: str, limit: int, patience: timedelta) -> Hold:
        loop = asyncio.get_running_loop()
        if (spare := self._spare[tool]) and not self._lines[tool]:
            hold = spare.pop()
            if hold.slot.number < limit and loop.time() < hold.deadline:
                return hold
            self._let_go(hold)
        line, end, pause = self._lines[tool], loop.time() + patience.total_seconds(), FIRST_PAUSE
        age, taken = timedelta(0), False
        place: asyncio.Future[Hold] = loop.create_future()
        line.append(place)
        try:
            while not place.done():
                if line[0] is place:  # the first in line asks for all
                    age = await self._ask(tool, limit, len(line))
                left = end - loop.time()
                if not place.done() and left <= 0:
                    raise Parked(min(max(age, SOONEST), LATEST), called=False)
                await asyncio.wait([place], timeout=min(pause, max(left, 0)))
                pause = min(2 * pause, LONGEST_PAUSE)
            taken = True
            return place.result()
        finally:
            if place in line:
                line.remove(place)
            elif not taken:  # it came while this call was being canceled
                self._pass_on(place.result())

    async def _ask(self, tool: str, limit: int, count: int) -> timedelta:
        """Take numbers for those in line; how long those who hold numbers have held them.

        Whoever asks may be canceled meanwhile: what was taken is then for the next, and would be lost otherwise.
        """
        asking = asyncio.get_running_loop().create_task(self._asked(tool, limit, count))
        self._asking.add(asking)
        asking.add_done_callback(self._answered)
        return await asyncio.shield(asking)

    def _answered(self, asking: asyncio.Task[timedelta]) -> None:
        self._asking.discard(asking)
        if not asking.cancelled():
            asking.exception()  # who asked has it, if anybody still waits

    async def _asked(self, tool: str, limit: int, count: int) -> timedelta:
        sent = asyncio.get_running_loop().time()
        async with db.connection(self.pool) as conn:
            slots, age = await limits.take_slots(conn, tool, limit, self.holder, count=count, ttl=self.ttl)
        for slot in slots:
            hold = Hold(slot, sent, sent + self.ttl.total_seconds())
            self.held.add(hold)
            self._hand(hold)
        return age

    def _pass_on(self, hold: Hold) -> None:
        now = asyncio.get_running_loop().time()
        if now - hold.taken < SHARE and now < hold.deadline:
            self._hand(hold)
        else:
            self._let_go(hold)

    def _hand(self, hold: Hold) -> None:
        """Give it to the first that waits, or back."""
        line = self._lines[hold.slot.tool]
        while line:
            place = line.popleft()
            if not place.done():
                place.set_result(hold)
                return
        self._spare[hold.slot.tool].append(hold)
        asyncio.get_running_loop().call_later(SPARE, self._unused, hold)

    def _unused(self, hold: Hold) -> None:
        """Nobody came for it; one that somebody came for, and that is spare again, goes a little early."""
        spare = self._spare[hold.slot.tool]
        if hold in spare:
            spare.remove(hold)
            self._let_go(hold)

    def _let_go(self, hold: Hold) -> None:
        self.held.discard(hold)
        self._freed.append(hold.slot)
        self.news.set()

    async def empty(self) -> None:
        """Let go of what no call uses, and of what is still to come."""
        if self._asking:
            await asyncio.wait(self._asking)
        for spare in self._spare.values():
            while spare:
                self._let_go(spare.pop())

    async def give_back(self) -> None:
        """Write down what calls have let go of."""
        freed, self._freed = self._freed, []
        if not freed:
            return
        written = False
        try:
            async with db.connection(self.pool) as conn:
                await limits.free_slots(conn, self.holder, freed)
            written = True
        finally:
            self._freed += [] if written else freed

    async def renew(self) -> None:
        """Prolong what is held; break off the calls whose numbers are somebody else's."""
        holds = list(self.held)
        if not holds:
            return
        sent = asyncio.get_running_loop().time()
        async with db.connection(self.pool) as conn:
            ours = await limits.renew_slots(conn, self.holder, [hold.slot for hold in holds], ttl=self.ttl)
        for hold in holds:
            kept = (hold.slot.tool, hold.slot.number) in ours
            hold.deadline = sent + self.ttl.total_seconds() if kept else sent
            if hold.guard is not None and hold in self.held and not hold.guard.expired():
                hold.guard.reschedule(hold.deadline)
