"""Calendar rules (YEARLY to DAILY): from a rule and its DTSTART to wall times, at the same cost at any age.

What DTSTART implies is written into the rule first (RFC 5545 section 3.3.10), so that every period of the
rule can be listed by itself. Then the rule is a choice of periods: which unit it counts, which days of each
it wants, which times of day. The rest is arithmetic on the numbers of periods. BYSETPOS picks from a period's
whole set, the part before DTSTART included, and COUNT counts wall times from DTSTART on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from engine.schedule import shapes
from engine.schedule.calendar_periods import Periods, Unit, periods
from engine.schedule.daytimes import DayTimes
from engine.schedule.rule import Rule


@dataclass(frozen=True, slots=True)
class CalendarRule:
    """A rule with nothing left to imply: every day filter and every time of day is explicit.

    `last` is the wall time at which COUNT is used up; None without COUNT, and if the calendar ends before.
    """

    rule: Rule
    dtstart: datetime
    times: DayTimes
    periods: Periods
    last: datetime | None


@lru_cache(maxsize=1024)
def prepare(rule: Rule, dtstart: datetime) -> CalendarRule:
    """`rule` with the parts that RFC 5545 takes from the naive wall time `dtstart` filled in."""
    dtstart = dtstart.replace(microsecond=0)
    times = DayTimes(
        rule.byhour or (dtstart.hour,),
        rule.byminute or (dtstart.minute,),
        rule.bysecond or (dtstart.second,),
    )
    full = _with_days(rule, dtstart)
    unit = _unit(full)
    found = periods(
        unit,
        _shapes(full, unit),
        times,
        start=dtstart,
        interval=full.interval,
        wkst=full.wkst,
        bysetpos=full.bysetpos,
    )
    last = found.nth(rule.count, dtstart) if rule.count else None
    return CalendarRule(full, dtstart, times, found, last)


def walls(calendar: CalendarRule, seek: datetime) -> Iterator[datetime]:
    """The rule's wall times from `seek` (or DTSTART, if later) on, ascending; UNTIL is not looked at here."""
    for wall in calendar.periods.walls(max(seek, calendar.dtstart)):
        if calendar.last and wall > calendar.last:
            return
        yield wall


def holds(calendar: CalendarRule, wall: datetime) -> bool:
    """Whether the naive `wall` is one of the rule's wall times; UNTIL is not looked at here."""
    if wall < calendar.dtstart or (calendar.last and wall > calendar.last):
        return False
    return calendar.periods.holds(wall)


def fires(calendar: CalendarRule) -> bool:
    """Whether the rule has any occurrence before the calendar ends, with the year 9998."""
    return next(calendar.periods.walls(calendar.dtstart), None) is not None


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


def _unit(rule: Rule) -> Unit:
    """What the rule counts. Every single day or week of some months is better listed by months."""
    if rule.byweekno:
        return "week year"
    if rule.freq in ("YEARLY", "MONTHLY"):
        return "year" if rule.freq == "YEARLY" else "month"
    filtered = rule.bymonth or (rule.freq == "DAILY" and (rule.bymonthday or rule.byday))
    if filtered and rule.interval == 1 and not rule.bysetpos:
        return "month"
    return "week" if rule.freq == "WEEKLY" else "day"


def _shapes(rule: Rule, unit: Unit) -> shapes.Shapes:
    parts = shapes.DayParts(rule.bymonth, rule.bymonthday, rule.byyearday, rule.byweekno, rule.byday)
    if unit == "week year":
        return shapes.week_year_shapes(parts, rule.wkst)
    if unit == "year":
        return shapes.year_shapes(parts)
    if unit == "month":
        return shapes.month_shapes(parts)
    if unit == "week":
        return shapes.week_shapes(parts, rule.wkst)
    return shapes.every_day() if parts == shapes.DayParts() else shapes.day_shapes(parts)
