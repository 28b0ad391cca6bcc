"""Calendar rules (YEARLY to DAILY): from a rule and its DTSTART to wall times, at the same cost at any age.

python-dateutil lists the days, except where all periods are alike and arithmetic does. What DTSTART implies
is written into the rule first, so that the generator can be started in any period a whole number of intervals
away, aligned to its first day: it never walks up from DTSTART. dateutil is given days only, and what it gets
wrong is kept from it: BYDAY that mixes "3MO" and "WE" (it then yields nothing), week numbers, and BYSETPOS,
which must see the whole of the first period, the part before DTSTART included. Rules that name months are
listed month by month, which saves it the days between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import MAXYEAR, date, datetime, time, timedelta
from functools import lru_cache
from heapq import merge
from itertools import groupby, islice
from typing import Any

from dateutil import rrule as dateutil

from engine.schedule.rule import Rule
from engine.schedule.weeks import days_in_weeks, week_start, week_year

_DAY = timedelta(days=1)
_FREQ: dict[str, Any] = {  # the stubs want literals
    "YEARLY": dateutil.YEARLY,
    "MONTHLY": dateutil.MONTHLY,
    "WEEKLY": dateutil.WEEKLY,
    "DAILY": dateutil.DAILY,
}
_CYCLE = 400  # years after which the Gregorian calendar repeats, weekdays included
_LAST_DAY = date(MAXYEAR - 1, 12, 31).toordinal()
_EVERY_WEEKDAY = tuple((0, weekday) for weekday in range(7))


@dataclass(frozen=True, slots=True)
class CalendarRule:
    """A rule with nothing left to imply: every day filter and every time of day is explicit."""

    rule: Rule
    dtstart: datetime
    times: tuple[time, ...]


def prepare(rule: Rule, dtstart: datetime) -> CalendarRule:
    """`rule` with the parts that RFC 5545 takes from the naive wall time `dtstart` filled in."""
    times = tuple(
        time(hour, minute, second)
        for hour in rule.byhour or (dtstart.hour,)
        for minute in rule.byminute or (dtstart.minute,)
        for second in rule.bysecond or (dtstart.second,)
    )
    return CalendarRule(_with_days(rule, dtstart), dtstart.replace(microsecond=0), times)


def walls(calendar: CalendarRule, seek: datetime) -> Iterator[datetime]:
    """The rule's wall times from `seek` (or DTSTART, if later) on, ascending; UNTIL is not looked at here."""
    first = max(seek, calendar.dtstart)
    last = last_wall(calendar) if calendar.rule.count else None
    for wall in _candidates(calendar, first):
        if last and wall > last:
            return
        if wall >= first:
            yield wall


def fires(calendar: CalendarRule) -> bool:
    """Whether the rule has any occurrence within 400 years of its start.

    The search is made in the same years of the calendar's last cycles, where the generator's own end, the
    year 9999, bounds it.
    """
    rule, dtstart = calendar.rule, calendar.dtstart
    if rule.bysetpos and min(abs(place) for place in rule.bysetpos) > _largest_set(calendar):
        return False
    reached = {(dtstart.weekday() + step * rule.interval) % 7 for step in range(7)}
    if rule.freq == "DAILY" and rule.byday and not reached & {weekday for _, weekday in rule.byday}:
        return False
    cycles = (MAXYEAR - dtstart.year) // _CYCLE - 1
    late = replace(calendar, dtstart=dtstart.replace(year=dtstart.year + max(cycles, 0) * _CYCLE))
    return next(walls(replace(late, rule=replace(rule, count=None)), late.dtstart), None) is not None


@lru_cache(maxsize=4096)
def last_wall(calendar: CalendarRule) -> datetime | None:
    """The wall time at which COUNT is used up; None if the calendar ends before that.

    COUNT counts wall times of the rule from DTSTART on, whatever the DST policy makes of them.
    """
    rule, dtstart = calendar.rule, calendar.dtstart
    assert rule.count is not None
    if _is_regular(rule) and not rule.bysetpos:
        return _counted_off(calendar, rule.count)
    counted = (wall for wall in _candidates(calendar, dtstart) if wall >= dtstart)
    return next(islice(counted, rule.count - 1, None), None)


def period_start(rule: Rule, dtstart: datetime, day: date) -> date:
    """The first day of the last period of the rule that begins on or before `day`.

    The rule's periods are DTSTART's own and every INTERVAL-th after it; for an earlier `day` it is DTSTART's.
    """
    begin, origin = dtstart.date(), max(day, dtstart.date())
    if rule.freq == "YEARLY":
        return date(origin.year - (origin.year - begin.year) % rule.interval, 1, 1)
    if rule.freq == "MONTHLY":
        index, first = (moment.year * 12 + moment.month - 1 for moment in (origin, begin))
        index -= (index - first) % rule.interval
        return date(index // 12, index % 12 + 1, 1)
    length = rule.interval
    if rule.freq == "WEEKLY":
        begin, length = week_start(begin, rule.wkst), 7 * length
    return origin - _DAY * ((origin - begin).days % length)


def _with_days(rule: Rule, dtstart: datetime) -> Rule:
    """RFC 5545 section 3.3.10: what is missing to determine the days is taken from DTSTART."""
    if (
        rule.freq == "DAILY"
        and rule.byday
        and rule.interval == 1
        and not (rule.bymonth or rule.bymonthday or rule.bysetpos)
    ):
        return replace(rule, freq="WEEKLY")  # the same days, and all weeks alike
    if rule.byday or rule.bymonthday or rule.byyearday:
        return rule
    if rule.byweekno or rule.freq == "WEEKLY":
        return replace(rule, byday=((0, dtstart.weekday()),))
    if rule.freq == "MONTHLY" or (rule.freq == "YEARLY" and rule.bymonth):
        return replace(rule, bymonthday=(dtstart.day,))
    if rule.freq == "YEARLY":
        return replace(rule, bymonth=(dtstart.month,), bymonthday=(dtstart.day,))
    return rule


def _counted_off(calendar: CalendarRule, number: int) -> datetime | None:
    """The `number`-th wall time of a regular rule, without counting."""
    rule, dtstart = calendar.rule, calendar.dtstart
    begin = period_start(rule, dtstart, dtstart.date())
    steps, length = _pattern(rule)
    slots = [datetime.combine(begin + _DAY * step, at) for step in steps for at in calendar.times]
    number += sum(slot < dtstart for slot in slots) - 1
    days_on = number // len(slots) * length
    return slots[number % len(slots)] + _DAY * days_on if begin.toordinal() + days_on < _LAST_DAY else None


def _is_regular(rule: Rule) -> bool:
    """Whether every period of the rule has the same days, counted from its first."""
    return not rule.bymonth and (
        rule.freq == "WEEKLY" or (rule.freq == "DAILY" and not rule.byday + rule.bymonthday)
    )


def _pattern(rule: Rule) -> tuple[list[int], int]:
    """The days of a regular rule's period, from 0, and the number of days from one period to the next."""
    if rule.freq == "DAILY":
        return [0], rule.interval
    return sorted((weekday - rule.wkst) % 7 for _, weekday in rule.byday), 7 * rule.interval


def _largest_set(calendar: CalendarRule) -> int:
    """How many occurrences one period can have at the very most."""
    rule = calendar.rule
    days = {"YEARLY": 366, "MONTHLY": 31, "WEEKLY": len(rule.byday), "DAILY": 1}[rule.freq]
    if rule.freq == "MONTHLY":
        days = min(days, len(rule.bymonthday) or 31, sum(1 if n else 5 for n, _ in rule.byday) or 31)
    return days * len(calendar.times)


def _candidates(calendar: CalendarRule, first: datetime) -> Iterator[datetime]:
    """Ascending wall times of the period that holds `first` and of all that follow."""
    rule = calendar.rule
    days = _days(rule, calendar.dtstart, first.date())
    if not rule.bysetpos:
        return (datetime.combine(day, at) for day in days for at in calendar.times)
    return _picked(calendar, days)


def _picked(calendar: CalendarRule, days: Iterator[date]) -> Iterator[datetime]:
    """BYSETPOS: the named positions of each period's whole set."""
    rule = calendar.rule
    for _, group in groupby(days, key=lambda day: _period_key(rule, day)):
        whole = [datetime.combine(day, at) for day in group for at in calendar.times]
        size = len(whole)
        indices = {place - 1 if place > 0 else size + place for place in rule.bysetpos}
        yield from (whole[index] for index in sorted(indices) if 0 <= index < size)


def _period_key(rule: Rule, day: date) -> object:
    if rule.byweekno:
        return week_year(day, rule.wkst)
    if rule.freq == "YEARLY":
        return day.year
    if rule.freq == "MONTHLY":
        return day.year, day.month
    return week_start(day, rule.wkst) if rule.freq == "WEEKLY" else day


def _days(rule: Rule, dtstart: datetime, seek: date) -> Iterator[date]:
    """Ascending days of the rule's periods, from the one that holds `seek` on; some may lie before `seek`."""
    if rule.byweekno:
        return _numbered_weeks(rule, dtstart, seek)
    begin = period_start(rule, dtstart, seek)
    if _is_regular(rule):
        steps, length = _pattern(rule)
        periods = range(begin.toordinal(), _LAST_DAY, length)
        return (date.fromordinal(first + step) for first in periods for step in steps)
    if rule.freq == "DAILY" and (rule.bymonth or rule.bymonthday):
        return _filtered_daily(rule, dtstart, seek)
    if rule.freq == "YEARLY" and 1 <= len(rule.bymonth) <= 4 and not rule.byyearday:
        return _by_month(rule, begin)
    return _generated(rule, begin)


def _numbered_weeks(rule: Rule, dtstart: datetime, seek: date) -> Iterator[date]:
    origin = week_year(dtstart.date(), rule.wkst)
    year = max(week_year(seek, rule.wkst), origin)
    weekdays = {weekday for _, weekday in rule.byday or _EVERY_WEEKDAY}
    for number in range(year - (year - origin) % rule.interval, MAXYEAR, rule.interval):
        for day in days_in_weeks(number, rule.wkst, rule.byweekno):
            if day.weekday() in weekdays and _allowed(rule, day):
                yield day


def _allowed(rule: Rule, day: date) -> bool:
    """Whether the parts that may stand beside BYWEEKNO, BYDAY aside, allow `day`."""
    if rule.bymonth and day.month not in rule.bymonth:
        return False
    next_month = (day.replace(day=28) + 4 * _DAY).replace(day=1)
    by_month = (day.day, (day - next_month).days)
    by_year = (day.timetuple().tm_yday, (day - date(day.year + 1, 1, 1)).days)
    return all(
        not wanted or any(number in wanted for number in numbers)
        for wanted, numbers in ((rule.bymonthday, by_month), (rule.byyearday, by_year))
    )


def _filtered_daily(rule: Rule, dtstart: datetime, seek: date) -> Iterator[date]:
    """A DAILY rule that names months or month days, listed by months: one day in 30 costs one step."""
    origin = dtstart.date()
    begin = max(seek, origin).replace(day=1)
    shape = replace(rule, interval=1, bymonthday=rule.bymonthday or tuple(range(1, 32)))
    if 1 <= len(rule.bymonth) <= 4:
        found = _by_month(replace(shape, freq="YEARLY"), begin.replace(month=1))
    else:
        found = _generated(replace(shape, freq="MONTHLY"), begin)
    return (day for day in found if day >= origin and (day - origin).days % rule.interval == 0)


def _by_month(rule: Rule, begin: date) -> Iterator[date]:
    """A YEARLY rule of few months as one rule for each of them, which passes over all other months."""
    monthly = replace(rule, freq="MONTHLY", interval=12 * rule.interval, bymonth=())
    streams = [_generated(monthly, begin.replace(month=month)) for month in rule.bymonth]
    return streams[0] if len(streams) == 1 else merge(*streams)


def _generated(rule: Rule, begin: date) -> Iterator[date]:
    plain = tuple(weekday for ordinal, weekday in rule.byday if not ordinal)
    numbered = tuple(dateutil.weekday(weekday, ordinal) for ordinal, weekday in rule.byday if ordinal)
    if not (plain and numbered):
        return _listed(rule, begin, plain or numbered)
    both = merge(_listed(rule, begin, plain), _listed(rule, begin, numbered))
    return (day for day, _ in groupby(both))


def _listed(rule: Rule, begin: date, weekdays: tuple[Any, ...]) -> Iterator[date]:
    generator = dateutil.rrule(
        _FREQ[rule.freq],
        dtstart=datetime(begin.year, begin.month, begin.day),  # noqa: DTZ001 days have no zone
        interval=rule.interval,
        wkst=rule.wkst,
        bymonth=rule.bymonth or None,
        bymonthday=rule.bymonthday or None,
        byyearday=rule.byyearday or None,
        byweekday=weekdays or None,
        byhour=0,
        byminute=0,
        bysecond=0,
    )
    return (moment.date() for moment in generator)
