"""The date filters of a sub-daily rule, as one bit for each day of a year.

The Gregorian calendar has fourteen kinds of year: each weekday on 1 January, leap or not. For each of them
BYMONTH, BYMONTHDAY, BYYEARDAY and BYDAY are put together once into a number whose bits are the allowed days,
and the next allowed day is then its next bit, however far away. Days are counted from 1970-01-01.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import MAXYEAR, date
from functools import lru_cache

from engine.schedule.rule import Rule

_EPOCH = date(1970, 1, 1).toordinal()
_LAST = date(MAXYEAR, 1, 1).toordinal() - _EPOCH
_LONGEST = 40  # years that a day may be away: 29 February on a given weekday, across 1900 or 2100
_MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True)
class DayFilter:
    """Which days a rule allows. An empty tuple allows all; weekdays are 0 for Monday."""

    months: tuple[int, ...]
    month_days: tuple[int, ...]
    year_days: tuple[int, ...]
    weekdays: tuple[int, ...]


def day_filter(rule: Rule) -> DayFilter | None:
    """The filter that the rule's date parts make, if it has any."""
    weekdays = tuple(weekday for _, weekday in rule.byday)
    if not (rule.bymonth or rule.bymonthday or rule.byyearday or weekdays):
        return None
    return DayFilter(rule.bymonth, rule.bymonthday, rule.byyearday, weekdays)


def is_empty(days: DayFilter) -> bool:
    """Whether no kind of year has an allowed day, as with 30 February."""
    return not any(_bits(days, leap, weekday) for leap in (False, True) for weekday in range(7))


def next_day(days: DayFilter, day: int) -> int | None:
    """The first allowed day from `day` on; None if there is none, or only after the last year."""
    at = date.fromordinal(min(day, _LAST) + _EPOCH)
    first = date(at.year, 1, 1)
    bits = _bits(days, _is_leap(at.year), first.weekday()) >> (at - first).days
    if bits:
        return day + _lowest(bits)
    for year in range(at.year + 1, min(at.year + _LONGEST, MAXYEAR) + 1):
        first = date(year, 1, 1)
        if bits := _bits(days, _is_leap(year), first.weekday()):
            return first.toordinal() - _EPOCH + _lowest(bits)
    return None


def days_on(days: DayFilter, day: int) -> int:
    """How many days from `day` on are allowed without a break, as far as the end of the year tells."""
    at = date.fromordinal(min(day, _LAST) + _EPOCH)
    first = date(at.year, 1, 1)
    bits = _bits(days, _is_leap(at.year), first.weekday()) >> (at - first).days
    return _lowest(~bits)


@lru_cache(maxsize=8192)
def _bits(days: DayFilter, leap: bool, weekday: int) -> int:
    """One bit for each allowed day of a year that begins on `weekday`; bit 0 is 1 January."""
    size = 366 if leap else 365
    found = (1 << size) - 1
    if days.weekdays:
        found &= sum(1 << day for day in range(size) if (weekday + day) % 7 in days.weekdays)
    if days.year_days:
        places = (number - 1 if number > 0 else size + number for number in days.year_days)
        found &= _sum_of_bits(place for place in places if 0 <= place < size)
    if days.months or days.month_days:
        found &= _by_months(days, leap)
    return found


def _by_months(days: DayFilter, leap: bool) -> int:
    found = begin = 0
    for month, length in enumerate(_MONTHS, start=1):
        size = length + (leap and month == 2)
        if month in days.months or not days.months:
            chosen = (1 << size) - 1
            if days.month_days:
                places = (number - 1 if number > 0 else size + number for number in days.month_days)
                chosen &= _sum_of_bits(place for place in places if place >= 0)
            found |= chosen << begin
        begin += size
    return found


def _sum_of_bits(places: Iterable[int]) -> int:
    found = 0
    for place in places:
        found |= 1 << place
    return found


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
