"""Week numbers as RFC 5545 section 3.3.10 counts them, for any first day of the week.

Week 1 is the first with at least four days in the year, so a week belongs to the year of its fourth day.
A rule with BYWEEKNO counts such week years: week 1 of 2009 starts on Monday 29 December 2008 and is 2009's.
With every year taken that makes no difference; with INTERVAL=2 it decides which weeks are the rule's.
"""

from __future__ import annotations

from datetime import date, timedelta

_DAY = timedelta(days=1)


def week_start(day: date, wkst: int) -> date:
    """The first day of the week that holds `day`; `wkst` is 0 for weeks that start on Monday."""
    return day - _DAY * ((day.weekday() - wkst) % 7)


def week_year(day: date, wkst: int) -> int:
    """The year that the week of `day` belongs to."""
    return (week_start(day, wkst) + 3 * _DAY).year
