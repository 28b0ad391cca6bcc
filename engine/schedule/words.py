"""A schedule in plain words, for previews and lists.

Common shapes get a sentence; whatever has no short true sentence gets its own text. Nothing is left out for
the sake of a nicer sentence: a reader must be able to rely on it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import time

from engine.durations import format_duration, parse_duration
from engine.schedule import cron
from engine.schedule.content import parse_content
from engine.schedule.kinds import Frame
from engine.schedule.rruler import prepare
from engine.schedule.rule import Rule
from engine.schedule.schedules import Schedule

_DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTH_NAMES = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_UNITS = {
    "YEARLY": "year",
    "MONTHLY": "month",
    "WEEKLY": "week",
    "DAILY": "day",
    "HOURLY": "hour",
    "MINUTELY": "minute",
    "SECONDLY": "second",
}
_ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", -1: "last", -2: "second last"}


def describe(schedule: Schedule) -> str:
    """`schedule` in words ("every weekday at 08:30, Europe/Chisinau"), or its text where no words fit."""
    writers: dict[str, Callable[[Schedule], str]] = {
        "rrule": _rrule,
        "cron": _cron,
        "every": lambda s: f"every {_span(s.expr)}",
        "condition": lambda s: f"when a probe made every {_span(s.expr)} turns true",
        "once": lambda s: f"once at {s.expr.strip()}",
        "event": lambda s: f"on every event that matches {s.expr}",
        "manual": lambda _: "on request only",
    }
    words = writers[schedule.kind](schedule)
    if schedule.kind not in ("rrule", "cron", "once"):
        return words
    return f"{words}, {schedule.compiled.frame.zone.key}{_beside(schedule)}"


def _span(expr: str) -> str:
    return format_duration(parse_duration(expr))


def _beside(schedule: Schedule) -> str:
    counts = (
        (len(schedule.options.get("rdates") or ()), "added"),
        (len(schedule.options.get("exdates") or ()), "excluded"),
    )
    notes = [f"{count} date{'s' if count > 1 else ''} {word}" for count, word in counts if count]
    return f" ({', '.join(notes)})" if notes else ""


def _rrule(schedule: Schedule) -> str:
    content = parse_content(schedule.expr)
    alone = len(content.rules) == 1 and not (content.exrules or content.rdates or content.exdates)
    rule = content.rules[0] if content.rules else None
    words = _rule_words(rule, schedule.compiled.frame) if alone and rule else None
    return words or f"by the rule {' '.join(schedule.expr.split())}"


def _rule_words(rule: Rule, frame: Frame) -> str | None:
    if rule.bysetpos or rule.byyearday or rule.byweekno:
        return None
    if rule.sub_daily:
        plain = not (
            rule.byday or rule.bymonth or rule.bymonthday or rule.byhour or rule.byminute or rule.bysecond
        )
        return f"{_each(rule)}{_bounds(rule)}" if plain else None
    full = prepare(rule, frame.wall)
    days = _days(full.rule)
    at = clock_words(full.times)
    return f"{days} at {at}{_bounds(rule)}" if days and at else None


def _days(rule: Rule) -> str | None:
    """The days of a calendar rule whose parts are all explicit."""
    numbered = [(n, day) for n, day in rule.byday if n]
    if rule.freq == "DAILY" and not (rule.bymonth or rule.bymonthday):
        return None if rule.byday else _each(rule)
    if rule.freq == "WEEKLY" and not rule.bymonth and not numbered:
        names = _weekdays(rule)
        return names if rule.interval == 1 else f"{_each(rule)} on {names.removeprefix('every ')}"
    if rule.freq == "MONTHLY" and not rule.bymonth:
        return f"{_each(rule)} on {_in_month(rule)}" if _in_month(rule) else None
    if rule.freq == "YEARLY" and rule.bymonth and _in_month(rule):
        return f"{_each(rule)} in {_listed([_MONTH_NAMES[m - 1] for m in rule.bymonth])} on {_in_month(rule)}"
    return None


def _in_month(rule: Rule) -> str | None:
    if rule.bymonthday and not rule.byday and rule.bymonthday[0] > 0:
        return f"day {_listed([str(day) for day in rule.bymonthday])}"
    if rule.bymonthday == (-1,) and not rule.byday:
        return "the last day"
    if rule.byday and not rule.bymonthday and all(n in _ORDINALS for n, _ in rule.byday):
        return f"the {_listed([f'{_ORDINALS[n]} {_DAY_NAMES[day]}' for n, day in rule.byday])}"
    return None


def _weekdays(rule: Rule) -> str:
    days = [day for _, day in rule.byday]
    if days == [0, 1, 2, 3, 4]:
        return "every weekday"
    return "every day" if len(days) == 7 else f"every {_listed([_DAY_NAMES[day] for day in days])}"


def _each(rule: Rule) -> str:
    unit = _UNITS[rule.freq]
    return f"every {unit}" if rule.interval == 1 else f"every {rule.interval} {unit}s"


def _bounds(rule: Rule) -> str:
    if rule.count:
        return f", {rule.count} time{'s' if rule.count > 1 else ''}"
    return f", until {rule.until.isoformat()}" if rule.until else ""


def _cron(schedule: Schedule) -> str:
    line = cron.parse_cron(schedule.expr)
    special = line.from_end or line.nth or line.either
    every_date, every_month = len(line.days) == 31, len(line.months) == 12
    at = clock_words(line.times)
    if special or not (every_date and every_month and at):
        return f"by the cron line {' '.join(schedule.expr.split())}"
    days = tuple((0, (day - 1) % 7) for day in line.weekdays)
    return f"{_weekdays(Rule('WEEKLY', byday=tuple(sorted(days))))} at {at}"


def clock_words(times: tuple[time, ...]) -> str | None:
    """ "08:30 and 17:00"; None where there are too many times to list."""
    if len(times) > 6:
        return None
    return _listed([at.isoformat("seconds" if at.second else "minutes") for at in times])


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
