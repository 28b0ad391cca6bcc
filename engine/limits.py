"""What a catalog entry allows: how often a tool is called, by how many at once, and when it is left alone.

Values only; who is admitted is decided in `engine/store/limits.py`, over all hosts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: `limit` calls in each `per`, of which `burst` may come at once."""

    limit: int
    per: timedelta
    burst: int


@dataclass(frozen=True, slots=True)
class Breaker:
    """After `failures` in a row no calls for `open_for`; then single probes, of which `successes` close it again."""

    failures: int = 5
    open_for: timedelta = timedelta(seconds=60)
    successes: int = 1
