"""What a catalog entry allows: how often a tool is called, by how many at once, and when it is left alone.

Values only; who is admitted is decided in `engine/store/limits.py`, over all hosts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

TICK = timedelta(microseconds=1)
"""The finest time that PostgreSQL knows."""

PATIENCE = timedelta(seconds=1)
"""How long a call waits to be let in before it gives its worker back, and so how far ahead tokens are given out."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: `limit` calls in each `per`, of which `burst` may come at once."""

    limit: int
    per: timedelta
    burst: int

    @property
    def interval(self) -> timedelta:
        """Time between two tokens, in whole microseconds and rounded up: never more than the limit."""
        return timedelta(microseconds=-(-(self.per // TICK) // self.limit))

    @property
    def tolerance(self) -> timedelta:
        """How long before its own instant a token may be used."""
        return self.interval * (self.burst - 1)

    def as_dict(self) -> dict[str, float]:
        """The public form; `per` in seconds."""
        return {"limit": self.limit, "per": self.per.total_seconds(), "burst": self.burst}


@dataclass(frozen=True, slots=True)
class Breaker:
    """After `failures` in a row no calls for `open_for`; then single probes, of which `successes` close it again."""

    failures: int = 5
    open_for: timedelta = timedelta(seconds=60)
    successes: int = 1

    def as_dict(self) -> dict[str, float]:
        """The public form; `open_for` in seconds."""
        return {
            "failures": self.failures,
            "open_for": self.open_for.total_seconds(),
            "successes": self.successes,
        }
