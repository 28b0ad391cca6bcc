"""A cron line in plain words, or None where no short sentence is true of it."""

from __future__ import annotations

from engine.schedule.cron import CronLine
from engine.schedule.phrases import (
    DAY_NAMES,
    day_kind,
    listed,
    months,
    numbers,
    on_weekdays,
    ordinal,
    times_words,
    weekdays,
)

EVERY_DAY = "every day"
MONTHLY = "every month on "


def cron_words(line: CronLine) -> str | None:
    """`line`: "every weekday at 08:30", "every 15 minutes from 09:00 to 16:59 on weekdays"."""
    at, days = times_words(line.times), _days(line)
    if at is None or days is None:
        return None
    if at.startswith("at "):
        return f"{days} {at}{months(sorted(line.months))}"
    if days.startswith(MONTHLY):
        where = f" on {days.removeprefix(MONTHLY)} of the month"
    elif days == EVERY_DAY:
        where = ""
    else:
        where = f" on {days}" if line.nth else on_weekdays(_weekdays(line))
    return f"{at}{where}{months(sorted(line.months))}"


def _days(line: CronLine) -> str | None:
    """The two day fields: either of them, both, or the one that is restricted."""
    dates = len(line.days) < 31 or bool(line.from_end)
    names = len(line.weekdays) < 7 or bool(line.nth)
    by_date, by_name = _by_date(line), _by_name(line)
    if not (dates or names) or (line.either and not (dates and names)):
        return EVERY_DAY  # any of all days, or another: a range may name them all and yet count as restricted
    if not dates:
        return by_name
    if by_date is None:
        return None
    if not names:
        return f"{MONTHLY}{by_date}"
    if line.either:
        return f"{MONTHLY}{by_date} and {by_name.removeprefix(MONTHLY)}"
    if line.nth:
        return None
    return f"{MONTHLY}{by_date} if it is a {day_kind(_weekdays(line))}"


def _by_date(line: CronLine) -> str | None:
    front = sorted(line.days)
    named = numbers(front) if front else ""
    if named is None:
        return None
    back = [f"the {ordinal(-1 - days)} day" for days in sorted(line.from_end)]
    return listed([*([f"day {named}"] if front else []), *back])


def _by_name(line: CronLine) -> str:
    """ "every weekday", "the second Friday", "every Monday and the last Friday"."""
    numbered = [f"the {ordinal(n)} {DAY_NAMES[(day - 1) % 7]}" for day, n in sorted(line.nth)]
    plain = [weekdays(_weekdays(line))] if line.weekdays else []
    words = listed([*plain, *numbered])
    return words if plain else f"{MONTHLY}{words}"


def _weekdays(line: CronLine) -> list[int]:
    """Monday is 0 here, Sunday is 0 there."""
    return sorted((day - 1) % 7 for day in line.weekdays)
