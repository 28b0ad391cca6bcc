"""The periods of a calendar schedule: every n-th day, week, month, year or year of weeks, and the slots in them.

A period is known by its number since the year 1, its days by its shape (`shapes`), and the slots of a period
are its days times the times of day, from which BYSETPOS may pick. The next slot is found from the number of
the period that holds the question, so the distance from DTSTART costs nothing, and periods without a slot are
passed over in the table of the 400-year cycle. The n-th slot is found by counting bytes of that table.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, date, datetime, time
from functools import partial
from typing import Literal

from engine.schedule.daytimes import DayTimes
from engine.schedule.shapes import LEAD, Shapes, days_of
from engine.schedule.weeks import week_year

Unit = Literal["day", "week", "month", "year", "week year"]

_LAST_DAY = date(MAXYEAR - 1, 12, 31)  # periods that begin later are not looked at: the calendar ends
_FEW = 288  # times of day that are kept as a list: one every five minutes
_NEAR = 32  # periods looked at first; the answer is mostly among them


@dataclass(frozen=True, slots=True)
class Periods:
    """Every `interval`-th `unit` from number `first` to `last`; weeks begin on `wkst`, 0 for Monday.

    `picks` holds for each shape which of its slots BYSETPOS picks; None: all of them. Shapes without a slot
    are 0 in the table. `clock` is `times`, listed where they are few.
    """

    unit: Unit
    wkst: int
    first: int
    last: int
    interval: int
    shapes: Shapes
    times: DayTimes
    clock: Sequence[time]
    picks: tuple[Sequence[int], ...] | None

    def walls(self, seek: datetime) -> Iterator[datetime]:
        """The wall times from the naive `seek` on, which lies in the first period or later; ascending."""
        number = number_of(self.unit, self.wkst, seek)
        unit: int | None = number + (self.first - number) % self.interval
        table, cycle = self.shapes.table, len(self.shapes.table)
        while unit is not None:
            if (shape := table[unit % cycle]) and unit <= self.last:
                begin = _begin(self.unit, self.wkst, unit)
                skipped = self._before(begin, shape, seek) if unit == number else 0
                yield from self._listed(begin, shape, skipped)
                unit += self.interval
            else:
                unit = self._next(unit)

    def holds(self, wall: datetime) -> bool:
        """Whether the naive `wall`, which lies in the first period or later, is one of the wall times."""
        number = number_of(self.unit, self.wkst, wall)
        shape = self.shapes.table[number % len(self.shapes.table)]
        if not shape or (number - self.first) % self.interval or number > self.last:
            return False
        begin = _begin(self.unit, self.wkst, number)
        if not self.shapes.masks[shape] >> (wall.toordinal() - begin) & 1 or not self.times.holds(wall):
            return False
        if self.picks is None:
            return True
        days = days_of(self.shapes.masks[shape])
        slot = days.index(wall.toordinal() - begin) * len(self.times) + self.times.before(wall.time())
        return slot in self.picks[shape]

    def nth(self, count: int, since: datetime) -> datetime | None:
        """The `count`-th wall time, from 1, at or after `since` in the first period; None if the calendar
        ends before it."""
        begin, shape = self._at(self.first)
        left = count - 1 + (self._before(begin, shape, since) if shape else 0)
        held = partial(_held, self._sizes())
        for unit, chunk in self._chunks(self.first):
            size = held(chunk)
            if left < size:
                ahead = bisect_right(range(len(chunk)), left, key=lambda end: held(chunk[:end])) - 1
                begin, shape = self._at(unit + ahead * self.interval)
                return next(self._listed(begin, shape, left - held(chunk[:ahead])), None)
            left -= size
        return None

    def _next(self, unit: int) -> int | None:
        """The first period from `unit`, one of ours, on that has a slot."""
        if self.shapes.rare:
            return self._next_of_few(unit)
        for begin, chunk in self._chunks(unit):
            empty = len(chunk) - len(chunk.lstrip(b"\0"))
            if empty < len(chunk):
                found = begin + empty * self.interval
                return found if found <= self.last else None
        return None

    def _next_of_few(self, unit: int) -> int | None:
        """The same where wanted periods are so few that each is tried for being one of ours."""
        cycle = len(self.shapes.table)
        for begin in range(unit - unit % cycle, self.last + 1, cycle):
            for place in self.shapes.rare:
                ahead = begin + place - unit
                if ahead >= 0 and ahead % self.interval == 0:
                    return unit + ahead if unit + ahead <= self.last else None
        return None

    def _chunks(self, unit: int) -> Iterator[tuple[int, bytes]]:
        """Runs of the shapes of our periods, each with the number of its first; ever longer ones."""
        table, reach = self.shapes.table, _NEAR
        while unit <= self.last:
            place = unit % len(table)
            chunk = table[place : place + reach * self.interval : self.interval]
            yield unit, chunk
            unit += len(chunk) * self.interval
            reach = min(16 * reach, len(table))

    def _sizes(self) -> dict[int, bytes]:
        """The shapes by their number of slots."""
        found: dict[int, bytes] = {}
        for shape, mask in enumerate(self.shapes.masks):
            size = mask.bit_count() * len(self.times) if self.picks is None else len(self.picks[shape])
            found[size] = found.get(size, b"") + bytes([shape])
        found.pop(0, None)
        return found

    def _at(self, unit: int) -> tuple[int, int]:
        """The day number at which the mask of a period begins, and its shape."""
        table = self.shapes.table
        return _begin(self.unit, self.wkst, unit), table[unit % len(table)]

    def _before(self, begin: int, shape: int, wall: datetime) -> int:
        """How many slots of a period come before `wall`."""
        days, offset = days_of(self.shapes.masks[shape]), wall.toordinal() - begin
        place = bisect_left(days, offset)
        slot = place * len(self.times)
        if place < len(days) and days[place] == offset:
            slot += self.times.before(wall.time())
        return slot if self.picks is None else bisect_left(self.picks[shape], slot)

    def _listed(self, begin: int, shape: int, skipped: int) -> Iterator[datetime]:
        days, size, clock = days_of(self.shapes.masks[shape]), len(self.clock), self.clock
        if self.picks is not None:
            places = (divmod(slot, size) for slot in self.picks[shape][skipped:])
            yield from (
                datetime.combine(date.fromordinal(begin + days[day]), clock[at]) for day, at in places
            )
            return
        whole, first = divmod(skipped, size)
        for offset in days[whole:]:
            day = date.fromordinal(begin + offset)
            for at in range(first, size):
                yield datetime.combine(day, clock[at])
            first = 0


def periods(
    unit: Unit,
    shapes: Shapes,
    times: DayTimes,
    *,
    start: date,
    interval: int = 1,
    wkst: int = 0,
    bysetpos: tuple[int, ...] = (),
) -> Periods:
    """The periods of `shapes` whose first holds `start`, with BYSETPOS applied to each period's whole set."""
    picks: tuple[Sequence[int], ...] | None = None
    if bysetpos:
        picks = tuple(_picked(bysetpos, mask.bit_count() * len(times)) for mask in shapes.masks)
        shapes = shapes.where(picks.__getitem__)
    first, last = (number_of(unit, wkst, day) for day in (start, _LAST_DAY))
    clock = tuple(times) if len(times) <= _FEW else times
    return Periods(unit, wkst, first, last, interval, shapes, times, clock, picks)


def number_of(unit: Unit, wkst: int, day: date) -> int:
    """The number of the period that holds `day`, counted from 0 for the first of the year 1."""
    if unit == "month":
        return day.year * 12 + day.month - 13
    if unit == "year":
        return day.year - 1
    if unit == "week year":
        return week_year(day, wkst) - 1
    return day.toordinal() - 1 if unit == "day" else (day.toordinal() - 1 - wkst) // 7


def _begin(unit: Unit, wkst: int, number: int) -> int:
    """The day number of the first day of a period's mask."""
    if unit == "month":
        return date(number // 12 + 1, number % 12 + 1, 1).toordinal()
    if unit == "week":
        return 7 * number + 1 + wkst
    if unit == "day":
        return number + 1
    return date(number + 1, 1, 1).toordinal() - (LEAD if unit == "week year" else 0)


def _held(sizes: dict[int, bytes], chunk: bytes) -> int:
    """How many slots periods of these shapes have together."""
    return sum(size * (len(chunk) - len(chunk.translate(None, alike))) for size, alike in sizes.items())


def _picked(bysetpos: tuple[int, ...], size: int) -> tuple[int, ...]:
    places = {place - 1 if place > 0 else size + place for place in bysetpos}
    return tuple(sorted(place for place in places if 0 <= place < size))
