"""What months and years look like, and which of their days a rule wants.

A month has one of 28 shapes (the weekday it begins on and its length), a year one of 14. What a rule's BY
parts want of a period depends on its shape alone, so it is worked out once per shape, as a bit mask with one
bit per day. The calendar repeats after 400 years, weekdays included; a table with one byte for each period of
that cycle says which shape comes when, and 0 where the rule wants nothing: a search for the next period that
has a day is then a search for a byte, however rare the days are.
"""

from __future__ import annotations

from calendar import isleap
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from itertools import pairwise
from re import finditer

CYCLE_WEEKS = 20_871
LEAD = 7
"""Days before 1 January at which the mask of a week year begins: its first week may begin in the old year."""

_RARE = 100  # days in 400 years: 29 February, if on some weekday
_WEEK = 0b111_1111
_EVERY_SEVENTH = sum(1 << 7 * week for week in range(53))
_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_BITS = bytes.maketrans(b"01", b"\0\1")


@dataclass(frozen=True, slots=True)
class DayParts:
    """The parts of a rule that speak of days, as `Rule` holds them; an empty tuple allows every day."""

    bymonth: tuple[int, ...] = ()
    bymonthday: tuple[int, ...] = ()
    byyearday: tuple[int, ...] = ()
    byweekno: tuple[int, ...] = ()
    byday: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Shapes:
    """`table[n % len(table)]` is the shape of the n-th period since the year 1, 0 if no day in it is wanted;
    `masks[shape]` holds a bit per wanted day, the lowest for the first day of the period. `rare` are the places
    that are not 0, if they are known to be very few."""

    table: bytes
    masks: tuple[int, ...]
    rare: tuple[int, ...] = ()

    def where(self, wanted: Callable[[int], object]) -> Shapes:
        """The same periods without those whose shape is not wanted."""
        kept = bytes(shape if wanted(shape) else 0 for shape in range(len(self.masks)))
        if kept == bytes(range(len(kept))):
            return self
        return Shapes(self.table.translate(kept.ljust(256, b"\0")), self.masks)


def marks(numbers: tuple[int, ...], length: int) -> int:
    """Bits for the days that `numbers` count from 1, or from -1 backwards, in a period of `length` days."""
    places = (number - 1 if number > 0 else length + number for number in numbers)
    return sum(1 << place for place in set(places) if 0 <= place < length)


def weekday_marks(byday: tuple[tuple[int, int], ...], begins: int, length: int) -> int:
    """Bits for the (ordinal, weekday) days of a period that begins on the weekday `begins`, 0 for Monday."""
    found = 0
    for ordinal, weekday in byday:
        first = (weekday - begins) % 7
        every = (_EVERY_SEVENTH << first) & ((1 << length) - 1)
        if ordinal == 0:
            found |= every
            continue
        last = first + (length - 1 - first) // 7 * 7
        place = first + 7 * (ordinal - 1) if ordinal > 0 else last + 7 * (ordinal + 1)
        found |= every & (1 << place) if place >= 0 else 0
    return found


@lru_cache(maxsize=4096)
def days_of(mask: int) -> tuple[int, ...]:
    """The places of the bits of `mask`, ascending."""
    return tuple(place for place, bit in enumerate(reversed(f"{mask:b}")) if bit == "1")


@lru_cache(maxsize=512)
def month_shapes(parts: DayParts) -> Shapes:
    """The wanted days of every month; ordinals of BYDAY count within the month."""
    return months(lambda begins, length: _month_mask(parts, begins, length), parts.bymonth)


def months(mask: Callable[[int, int], int], bymonth: tuple[int, ...]) -> Shapes:
    """Months whose days are told by `mask` from first weekday and length, none outside of `bymonth`."""
    masks = (0, *(mask(begins, length) for begins in range(7) for length in range(28, 32)))
    table = bytearray(_month_kinds())
    for month in set(range(1, 13)).difference(bymonth or range(1, 13)):
        table[month - 1 :: 12] = bytes(400)
    return Shapes(bytes(table), masks).where(masks.__getitem__)


@lru_cache(maxsize=512)
def year_shapes(parts: DayParts) -> Shapes:
    """The wanted days of every calendar year."""
    masks = (0, *_year_masks(parts))
    return Shapes(_year_kinds(), masks).where(masks.__getitem__)


@lru_cache(maxsize=512)
def week_year_shapes(parts: DayParts, wkst: int) -> Shapes:
    """The wanted days of every year of weeks, by BYWEEKNO; the lowest bit is `LEAD` days before 1 January."""
    masks = (0, *(_week_year_mask(parts, wkst, kind) for kind in range(28)))
    return Shapes(_year_kinds(), masks).where(masks.__getitem__)


@lru_cache(maxsize=64)
def day_shapes(parts: DayParts) -> Shapes:
    """Every single day, wanted or not."""
    years = [f"{mask:0{365 + (kind % 4 == 1)}b}"[::-1] for kind, mask in enumerate(_year_masks(parts))]
    days = "".join(years[kind - 1] for kind in _year_kinds())
    rare = tuple(found.start() for found in finditer("1", days)) if 0 < days.count("1") <= _RARE else ()
    return Shapes(days.encode().translate(_BITS), (0, 1), rare)


@lru_cache(maxsize=128)
def week_shapes(parts: DayParts, wkst: int) -> Shapes:
    """The wanted days of every week that begins on `wkst`; the number of a shape is its mask."""
    if not parts.bymonth:
        mask = sum(1 << (weekday - wkst) % 7 for _, weekday in parts.byday)
        return Shapes(bytes([mask]) * CYCLE_WEEKS, tuple(range(128)))
    days = day_shapes(parts).table
    turned = days[wkst:] + days[:wkst]
    # One byte per week: the seven days of each as seven bits, added up for all weeks at once.
    weeks = sum(int.from_bytes(turned[place::7]) << place for place in range(7))
    return Shapes(weeks.to_bytes(CYCLE_WEEKS), tuple(range(128)))


@lru_cache(maxsize=1)
def every_day() -> Shapes:
    """All days alike, as rules without any part for days want them."""
    return Shapes(b"\1" * CYCLE_WEEKS, (0, 1))


def _month_mask(parts: DayParts, begins: int, length: int) -> int:
    mask = (1 << length) - 1
    if parts.bymonthday:
        mask &= marks(parts.bymonthday, length)
    return mask & weekday_marks(parts.byday, begins, length) if parts.byday else mask


def _year_masks(parts: DayParts) -> list[int]:
    """The masks of the kinds of years; there are 14 of them, as only the year itself matters."""
    masks = [[_year_mask(parts, begins, leap) for begins in range(7)] for leap in (False, True)]
    return [masks[kind % 4 == 1][kind // 4] for kind in range(28)]


def _year_mask(parts: DayParts, begins: int, leap: bool) -> int:
    """RFC 5545 section 3.3.10: BYDAY's ordinals count within the months named, or else within the year."""
    length = 365 + leap
    mask = (1 << length) - 1
    if parts.byyearday:
        mask &= marks(parts.byyearday, length)
    if parts.byday and not parts.bymonth:
        mask &= weekday_marks(parts.byday, begins, length)
    if parts.bymonth or parts.bymonthday:
        mask &= _months_of_year(parts if parts.bymonth else replace(parts, byday=()), begins, leap)
    return mask


def _months_of_year(parts: DayParts, begins: int, leap: bool) -> int:
    found = first = 0
    for month, usual in enumerate(_LENGTHS, start=1):
        length = usual + (leap and month == 2)
        if not parts.bymonth or month in parts.bymonth:
            found |= _month_mask(parts, (begins + first) % 7, length) << first
        first += length
    return found


def _week_year_mask(parts: DayParts, wkst: int, kind: int) -> int:
    """Week 1 is the first with at least four days in the year, so it is the one that holds 4 January."""
    begins, neighbour = divmod(kind, 4)
    length = 365 + (neighbour == 1)
    before = 365 + (neighbour == 2)
    days = _year_mask(parts, (begins - before) % 7, neighbour == 2) >> (before - LEAD)
    days |= _year_mask(parts, begins, neighbour == 1) << LEAD
    days |= (_year_mask(parts, (begins + length) % 7, neighbour == 3) & _WEEK) << (LEAD + length)
    first, end = (4 - 1 + year - (begins + 3 + year - wkst) % 7 for year in (0, length))
    weeks = days_of(marks(parts.byweekno, (end - first) // 7))
    return days & sum(_WEEK << (LEAD + first + 7 * week) for week in weeks)


@lru_cache(maxsize=1)
def _month_kinds() -> bytes:
    """The shape of each month of the years 1 to 400: 1 + 4 * weekday of its first day + length - 28."""
    firsts = [date(year, month, 1) for year in range(1, 401) for month in range(1, 13)] + [date(401, 1, 1)]
    return bytes(1 + 4 * first.weekday() + (after - first).days - 28 for first, after in pairwise(firsts))


@lru_cache(maxsize=1)
def _year_kinds() -> bytes:
    """The kind of each of the years 1 to 400: 1 + 4 * weekday of 1 January + 1, 2 or 3 if the year itself, the
    one before or the one after is a leap year."""
    return bytes(
        1 + 4 * date(year, 1, 1).weekday() + (isleap(year) or 2 * isleap(year - 1) or 3 * isleap(year + 1))
        for year in range(1, 401)
    )
