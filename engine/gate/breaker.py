"""The circuit breaker of the remote gate: a state machine that is told the time.

    closed ──5 failures in a row──▶ open ──60 s──▶ half open ──3 good calls──▶ closed
                                      ▲                │
                                      └── a bad one ───┘

One for each process, in memory, and not the tools' (`engine.tools.limits`), which all hosts share through the
database: the gate is asked twice a step, also where there is no database, and each process has its own way to it.
"""

from __future__ import annotations

from typing import Literal

State = Literal["closed", "half_open", "open"]

FAILURES = 5
"""Failures in a row that open it."""
TRIALS = 3
"""Good calls that close it again; as many may be under way at once before."""
BUSY = 1.0
"""Seconds to wait while the trials are under way."""


class Breaker:
    """Instants are seconds of one clock, `open_for` seconds.

    A call asks `wait`, then takes its era from `enter` and gives it back to `leave`; what comes back from an era that
    is over counts no more.
    """

    __slots__ = ("_era", "_failures", "_good", "_opened", "_under_way", "open_for")

    def __init__(self, open_for: float = 60.0) -> None:
        self.open_for = open_for
        self._opened: float | None = None
        self._era = self._failures = self._good = self._under_way = 0

    def state(self, now: float) -> State:
        """As it is at `now`: an open one becomes half open by time alone."""
        if self._opened is None:
            return "closed"
        return "open" if now < self._opened + self.open_for else "half_open"

    def wait(self, now: float) -> float:
        """Seconds until a call may be made; 0 when it may be made now."""
        if self._opened is None:
            return 0.0
        left = self._opened + self.open_for - now
        if left > 0:
            return left
        return 0.0 if self._good + self._under_way < TRIALS else BUSY

    def enter(self) -> int:
        """A call begins: the era that it belongs to."""
        if self._opened is not None:
            self._under_way += 1
        return self._era

    def leave(self, era: int, now: float, good: bool | None) -> None:
        """A call has ended; None where it says nothing about the service."""
        if era != self._era:
            return
        if self._opened is not None:
            self._tried(now, good)
        elif good:
            self._failures = 0
        elif good is False:
            self._failures += 1
            if self._failures >= FAILURES:
                self._turn(now)

    def _tried(self, now: float, good: bool | None) -> None:
        self._under_way -= 1
        if good is False:
            self._turn(now)
        elif good:
            self._good += 1
            if self._good >= TRIALS:
                self._turn(None)

    def _turn(self, opened: float | None) -> None:
        self._opened = opened
        self._era += 1
        self._failures = self._good = self._under_way = 0
