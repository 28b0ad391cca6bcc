"""Rates on the side of the process: tokens taken in batches, used in their time or not at all.

One statement serves all calls that wait at that moment and, for a tenth of a second, those that will come at the pace
of late; so a bucket is not updated for each call. What a token promises stands in `engine/store/limits.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta

from engine import db
from engine.db import Pool
from engine.limits import Rate
from engine.store import limits
from engine.tools.calls import Parked

BATCH = 0.1
"""Seconds of calls, at the pace since the last statement, for which tokens are taken ahead."""
TOLD = 0.05
"""Seconds for which an answer to those who waited stands for one of them."""
LEAD, LONGEST_LEAD = timedelta(milliseconds=5), timedelta(milliseconds=500)
"""How far ahead tokens are asked for that live for less than a statement takes: doubled while they come too late."""


class Bucket:
    """The tokens of one tool that this process has."""

    def __init__(self, pool: Pool, tool: str) -> None:
        self.pool = pool
        self.tool = tool
        self._ready: deque[tuple[float, float]] = deque()
        self._told: deque[tuple[float, timedelta]] = deque()
        self._asking = asyncio.Lock()
        self._waiting = 0
        self._used = 0
        self._asked = 0.0
        self._lead = timedelta(0)

    async def take(self, rate: Rate, patience: timedelta) -> None:
        """Return when a call may begin. Raises Parked when that is more than `patience` away."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience.total_seconds()
        while True:
            begins, ends = self._fresh(end) or await self._next(rate, end)
            await asyncio.sleep(begins - loop.time())
            if loop.time() < ends:  # else this process was held up for longer than the token lives
                self._used += 1
                return

    async def _next(self, rate: Rate, end: float) -> tuple[float, float]:
        """The next token that is of use before `end`, asked for together with all who wait."""
        self._waiting += 1
        try:
            async with self._asking:
                while (token := self._fresh(end)) is None:
                    now = asyncio.get_running_loop().time()
                    while self._told:
                        until, delay = self._told.popleft()
                        if now < until:
                            raise Parked(delay, called=False)
                    await self._ask(rate, timedelta(seconds=max(0.0, end - now)))
                return token
        finally:
            self._waiting -= 1

    def _fresh(self, end: float) -> tuple[float, float] | None:
        now = asyncio.get_running_loop().time()
        while self._ready and self._ready[0][1] <= now:
            self._ready.popleft()
        if not self._ready:
            return None
        if self._ready[0][0] > max(end, now):
            raise Parked(timedelta(seconds=self._ready[0][0] - now), called=False)
        return self._ready.popleft()

    async def _ask(self, rate: Rate, patience: timedelta) -> None:
        """Take tokens for all who wait. By the local clock they begin no earlier than they may, and end no later."""
        loop = asyncio.get_running_loop()
        sent = loop.time()
        ahead = min(int(self._used / max(sent - self._asked, 0.001) * BATCH), rate.limit)
        async with db.connection(self.pool) as conn:
            given = await limits.take_tokens(
                conn, self.tool, rate, wanted=self._waiting, ahead=ahead, patience=patience, lead=self._lead
            )
        received = loop.time()
        self._used, self._asked = 0, sent
        first = (given.first - given.now).total_seconds()
        step, tolerance = rate.interval.total_seconds(), rate.tolerance.total_seconds()
        self._ready = deque(
            (received + first + number * step - tolerance, sent + first + (number + 1) * step)
            for number in range(given.count)
        )
        self._told = deque((received + TOLD, delay) for delay in given.back)
        if self._ready and self._ready[-1][1] <= received:
            self._lead = min(max(LEAD, self._lead * 2), LONGEST_LEAD)
