"""The times of day of a schedule, kept as the lists they are the product of.

BYHOUR, BYMINUTE and BYSECOND can name all 86,400 seconds of a day. Held as three lists they take no room, and
the first time from some moment on is found by looking at three numbers, not by walking up to it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import overload


@dataclass(frozen=True, slots=True)
class DayTimes(Sequence[time]):
    """Naive times of day, ascending: every listed second of every listed minute of every listed hour."""

    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...] = (0,)

    def __len__(self) -> int:
        """How many times a day has."""
        return len(self.hours) * len(self.minutes) * len(self.seconds)

    @overload
    def __getitem__(self, place: int) -> time: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[time]: ...
    def __getitem__(self, place: int | slice) -> time | Sequence[time]:
        """The time at `place`, or several of them."""
        if isinstance(place, slice):
            return tuple(self[number] for number in range(*place.indices(len(self))))
        minute, second = divmod(place, len(self.seconds))
        hour, minute = divmod(minute, len(self.minutes))
        return time(self.hours[hour], self.minutes[minute], self.seconds[second])

    def holds(self, at: datetime) -> bool:
        """Whether the time of day of `at` is one of the times."""
        return (
            at.hour in self.hours
            and at.minute in self.minutes
            and at.second in self.seconds
            and not at.microsecond
        )

    def before(self, at: time) -> int:
        """How many of the times come before `at`, which is also the place of the first from `at` on."""
        hour = bisect_left(self.hours, at.hour)
        if hour == len(self.hours) or self.hours[hour] != at.hour:
            return hour * len(self.minutes) * len(self.seconds)
        minute = bisect_left(self.minutes, at.minute)
        found = hour * len(self.minutes) + minute
        if minute == len(self.minutes) or self.minutes[minute] != at.minute:
            return found * len(self.seconds)
        second = at.second + (at.microsecond > 0)
        return found * len(self.seconds) + bisect_left(self.seconds, second)
