"""Cron lines: five fields or a macro, read as Vixie cron reads them, with `L` and `#` beside.

Two habits of cron surprise people and are kept because crontabs rely on them: when both day fields are
restricted a day that satisfies either is taken (the schedule carries a warning), and a day field that begins
with `*` does not count as restricted. Sources: crontab(5) of Vixie cron 3.0 and ISC cron 4.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache

from engine.schedule.calendar_periods import Periods, periods
from engine.schedule.daytimes import DayTimes
from engine.schedule.refusals import did_you_mean, refusal, shown
from engine.schedule.shapes import Shapes, marks, months, weekday_marks

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MAX_TEXT = 512
OR_WARNING = (
    "day-of-month and day-of-week are both restricted: cron fires on days that satisfy either, not both"
)
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day-of-month", 1, 31),
    ("month", 1, 12),
    ("day-of-week", 0, 7),
)
_ITEM = re.compile(r"(\*|(\w+)(?:-(\w+))?)(?:/(\d{1,4}))?", re.ASCII)
_FIRST = date(1, 1, 1)


@dataclass(frozen=True, slots=True)
class CronLine:
    """A parsed line. Weekdays are 0 for Sunday; `nth` holds (weekday, n) of `#`, n = -1 for `L`.

    `from_end` holds how many days before the month's end `L` and `L-n` stand for. `either` says that the day
    fields are joined by OR.
    """

    times: DayTimes
    months: frozenset[int]
    days: frozenset[int]
    from_end: frozenset[int]
    weekdays: frozenset[int]
    nth: frozenset[tuple[int, int]]
    either: bool
    every_hour: bool
    periods: Periods = field(repr=False)


def parse_cron(text: str) -> CronLine:
    """The line that `text` states ("30 8 * * 1-5", "@daily"). Raises ValidationFailed otherwise."""
    if len(text) > MAX_TEXT:
        raise refusal("cron", f"the cron line is longer than {MAX_TEXT} characters")
    if not text.isascii() or len(text.strip().splitlines()) > 1:
        # Some letters become ASCII when their case is changed, as the long s does.
        raise refusal("cron", f"{shown(text)} is not one line of ASCII characters, as a cron line is")
    fields = _expanded(text.strip()).upper().split()
    if len(fields) != 5:
        hint = (
            "; seconds and years are not part of cron, use an RRULE for them" if len(fields) in (6, 7) else ""
        )
        raise refusal("cron", f"a cron line has 5 fields, {shown(text)} has {len(fields)}{hint}")
    minutes, hours = (_plain(fields[place], place) for place in (0, 1))
    days, from_end = _month_days(fields[2])
    weekdays, nth = _week_days(fields[4])
    in_months = _plain(fields[3], 3)
    either = not (fields[2].startswith("*") or fields[4].startswith("*"))
    dates = (*sorted(days), *(-1 - number for number in sorted(from_end)))
    byday = sorted({(0, (day - 1) % 7) for day in weekdays} | {(n, (day - 1) % 7) for day, n in nth})
    shapes = _shapes(dates, tuple(byday), either, tuple(sorted(in_months)))
    if not any(shapes.table):
        raise refusal("never_fires", f"{shown(text)} never fires: no such day exists in the months named")
    times = DayTimes(tuple(sorted(hours)), tuple(sorted(minutes)))
    found = periods("month", shapes, times, start=_FIRST)
    return CronLine(times, in_months, days, from_end, weekdays, nth, either, len(hours) == 24, found)


def walls(line: CronLine, seek: datetime) -> Iterator[datetime]:
    """The line's wall times from `seek` on, ascending."""
    return line.periods.walls(seek)


@lru_cache(maxsize=512)
def _shapes(
    days: tuple[int, ...], byday: tuple[tuple[int, int], ...], either: bool, in_months: tuple[int, ...]
) -> Shapes:
    """The days of every month on which a line with these day fields fires."""

    def mask(begins: int, length: int) -> int:
        by_date, by_weekday = marks(days, length), weekday_marks(byday, begins, length)
        return by_date | by_weekday if either else by_date & by_weekday

    return months(mask, in_months)


def _expanded(text: str) -> str:
    if not text.startswith("@"):
        return text
    if text.lower() not in MACROS:
        hint = did_you_mean(text, MACROS) or f" It takes {', '.join(MACROS)}."
        raise refusal("cron", f"{shown(text)} is not a macro that a schedule can follow.{hint}")
    return MACROS[text.lower()]


def _plain(field: str, place: int) -> frozenset[int]:
    return frozenset(number for item in field.split(",") for number in _item(item, place))


def _month_days(field: str) -> tuple[frozenset[int], frozenset[int]]:
    days: set[int] = set()
    from_end: set[int] = set()
    for item in field.split(","):
        last = re.fullmatch(r"L(?:-(\d{1,2}))?", item, re.ASCII)
        if last is None:
            days.update(_item(item, 2))
        elif int(last[1] or 0) > 30:
            raise refusal("cron", f"day-of-month {shown(item)} lies before every month's first day")
        else:
            from_end.add(int(last[1] or 0))
    return frozenset(days), frozenset(from_end)


def _week_days(field: str) -> tuple[frozenset[int], frozenset[tuple[int, int]]]:
    days: set[int] = set()
    nth: set[tuple[int, int]] = set()
    for item in field.split(","):
        special = re.fullmatch(r"(\w{1,3}?)(?:L|#([1-5]))", item, re.ASCII)
        if special is None:
            days.update(number % 7 for number in _item(item, 4))
        else:
            nth.add((_number(special[1], 4) % 7, int(special[2] or -1)))
    return frozenset(days), frozenset(nth)


def _item(item: str, place: int) -> range:
    """One of `*`, `a`, `a-b`, each with an optional `/step`; `a/step` runs from a to the field's end."""
    name, low, high = _FIELDS[place]
    match = _ITEM.fullmatch(item)
    if match is None:
        raise refusal(
            "cron", f"{name} {shown(item)} is not a number, a range a-b, * or one of them with /step"
        )
    whole, start_text, end_text, step_text = match.groups()
    top = 6 if place == 4 else high
    start = low if whole == "*" else _number(start_text, place)
    end = top if whole == "*" else start
    if end_text:
        end = _number(end_text, place)
        end = 7 if place == 4 and end == 0 and start > 0 else end  # SAT-SUN
    elif step_text and whole != "*":
        end = top
    if end < start:
        raise refusal("cron", f"{name} {shown(item)} runs backwards; write it as a list or two ranges")
    return range(start, end + 1, _step(step_text, name, high - low + 1))


def _step(text: str | None, name: str, size: int) -> int:
    step = int(text or 1)
    if not 1 <= step < max(size, 2):
        raise refusal("cron", f"{name} step /{text} must be from 1 to {size - 1}")
    return step


def _number(text: str, place: int) -> int:
    name, low, high = _FIELDS[place]
    names = _MONTHS if place == 3 else _DAYS if place == 4 else ()
    if text in names:
        return names.index(text) + (1 if place == 3 else 0)
    if not re.fullmatch(r"\d{1,4}", text, re.ASCII) or not low <= int(text) <= high:
        also = f" or {names[0]} to {names[-1]}" if names else ""
        raise refusal("cron", f"{name} {shown(text)} must be from {low} to {high}{also}")
    return int(text)
