"""Calendar rules (YEARLY to DAILY): from a rule and its DTSTART to wall times, at the same cost at any age.

python-dateutil lists the days; everything around it is ours. What DTSTART implies is written into the rule,
so that the generator can be started in any period that is a whole number of intervals away and aligned to its
first day; it never walks up from DTSTART. dateutil is given days only, and three things are kept from it
because it gets them wrong: BYDAY that mixes "3MO" and "WE" (it then yields nothing), week numbers at the turn
of the year, and BYSETPOS, which must see the whole of the first period, the part before DTSTART included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from heapq import merge
from itertools import groupby, islice
from typing import Any

from dateutil import rrule as dateutil

from engine.schedule.rule import Rule

_DAY = timedelta(days=1)
_FREQ: dict[str, Any] = {  # the stubs want literals
    "YEARLY": dateutil.YEARLY,
    "MONTHLY": dateutil.MONTHLY,
    "WEEKLY": dateutil.WEEKLY,
    "DAILY": dateutil.DAILY,
}


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


@lru_cache(maxsize=4096)
def last_wall(calendar: CalendarRule) -> datetime | None:
    """The wall time at which COUNT is used up; None if the calendar ends before that.

    COUNT counts wall times of the rule from DTSTART on, whatever the DST policy makes of them.
    """
    assert calendar.rule.count is not None
    counted = (wall for wall in _candidates(calendar, calendar.dtstart) if wall >= calendar.dtstart)
    return next(islice(counted, calendar.rule.count - 1, None), None)


def period_start(rule: Rule, dtstart: datetime, day: date) -> date:
    """The first day of the last period of the rule that begins on or before `day`.

    The rule's periods are DTSTART's own and every INTERVAL-th after it; for an earlier `day` it is DTSTART's.
    """
    origin = max(day, dtstart.date())
    if rule.freq == "YEARLY":
        year = origin.year - (origin.year - dtstart.year) % rule.interval
        return date(year, 1, 1)
    if rule.freq == "MONTHLY":
        months = (origin.year - dtstart.year) * 12 + origin.month - dtstart.month
        index = dtstart.year * 12 + dtstart.month - 1 + months - months % rule.interval
        return date(index // 12, index % 12 + 1, 1)
    begin = dtstart.date()
    if rule.freq == "WEEKLY":
        begin -= _DAY * ((begin.weekday() - rule.wkst) % 7)
    length = rule.interval * (7 if rule.freq == "WEEKLY" else 1)
    return origin - _DAY * ((origin - begin).days % length)


def _with_days(rule: Rule, dtstart: datetime) -> Rule:
    """RFC 5545 section 3.3.10: what is missing to determine the days is taken from DTSTART."""
    if rule.byday or rule.bymonthday or rule.byyearday:
        return rule
    if rule.byweekno or rule.freq == "WEEKLY":
        return replace(rule, byday=((0, dtstart.weekday()),))
    if rule.freq == "MONTHLY" or (rule.freq == "YEARLY" and rule.bymonth):
        return replace(rule, bymonthday=(dtstart.day,))
    if rule.freq == "YEARLY":
        return replace(rule, bymonth=(dtstart.month,), bymonthday=(dtstart.day,))
    return rule


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
    if rule.freq == "YEARLY":
        return day.year
    if rule.freq == "MONTHLY":
        return day.year, day.month
    if rule.freq == "WEEKLY":
        return day - _DAY * ((day.weekday() - rule.wkst) % 7)
    return day


def _days(rule: Rule, dtstart: datetime, seek: date) -> Iterator[date]:
    """Ascending days of the rule's periods from the one that holds `seek`; some may lie before `seek`."""
    begin = period_start(rule, dtstart, seek)
    if rule.freq == "DAILY" and (rule.bymonth or rule.bymonthday):
        return _filtered_daily(rule, dtstart, seek)
    found = _generated(rule, begin)
    if rule.byweekno:
        return (day for day in found if _week_matches(day, rule))
    return found


def _filtered_daily(rule: Rule, dtstart: datetime, seek: date) -> Iterator[date]:
    """A DAILY rule that names months or month days, listed month by month: one in 30 days costs one step."""
    monthly = replace(rule, freq="MONTHLY", interval=1, bymonthday=rule.bymonthday or tuple(range(1, 32)))
    begin = max(seek, dtstart.date())
    origin = dtstart.date()
    for day in _generated(monthly, begin.replace(day=1)):
        if day >= begin and (day - origin).days % rule.interval == 0:
            yield day


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
        byweekday=weekdays or (range(7) if rule.byweekno and not rule.bymonthday else None),
        byhour=0,
        byminute=0,
        bysecond=0,
    )
    return (moment.date() for moment in generator)


def _week_matches(day: date, rule: Rule) -> bool:
    """Whether `day` lies in one of the numbered weeks: week 1 is the first with four days in the year."""
    middle = day + _DAY * (3 - (day.weekday() - rule.wkst) % 7)  # a week belongs to the year of its 4th day
    number = (middle.timetuple().tm_yday - 1) // 7 + 1
    december = date(middle.year, 12, 31)
    closing = december + _DAY * (3 - (december.weekday() - rule.wkst) % 7)
    last = closing if closing.year == middle.year else closing - 7 * _DAY
    weeks = (last.timetuple().tm_yday - 1) // 7 + 1
    return number in rule.byweekno or number - weeks - 1 in rule.byweekno
