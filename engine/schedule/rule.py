"""RFC 5545 section 3.3.10: the text of a recurrence rule, parsed strictly.

Lenient parsers turn a slip into a schedule that never fires or fires wrongly: an unknown part is dropped, a
repeated part overwrites, `INTERVAL=0` loops for ever. Here every part must be known, appear once, be in range
and be allowed with its FREQ, and all that is wrong is reported together.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from engine.errors import Problem, ValidationFailed
from engine.schedule.moments import parse_ical_moment
from engine.schedule.refusals import did_you_mean, refusal, shown

FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY")
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
MAX_TEXT = 4096
MAX_COUNT = 100_000
MAX_INTERVAL = 100_000
MAX_INTERVAL_YEARS = 400  # one Gregorian cycle: a longer period repeats nothing anybody will see

_NUMBERS: dict[str, tuple[int, int, bool]] = {  # part: lowest, highest, whether negatives count from the end
    "BYMONTH": (1, 12, False),
    "BYMONTHDAY": (1, 31, True),
    "BYYEARDAY": (1, 366, True),
    "BYWEEKNO": (1, 53, True),
    "BYHOUR": (0, 23, False),
    "BYMINUTE": (0, 59, False),
    "BYSECOND": (0, 60, False),
    "BYSETPOS": (1, 366, True),
}
_PARTS = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *_NUMBERS)
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)
_SIGNED = re.compile(r"[+-]?\d{1,3}", re.ASCII)
_BYDAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rule:
    """One RRULE or EXRULE. An empty tuple means that the part was not given.

    `byday` holds (ordinal, weekday) with ordinal 0 for "every" and weekday 0 for Monday. `until` is a date, a
    naive wall time or an aware instant, as written.
    """

    freq: str
    interval: int = 1
    count: int | None = None
    until: date | datetime | None = None
    wkst: int = 0
    bymonth: tuple[int, ...] = ()
    bymonthday: tuple[int, ...] = ()
    byyearday: tuple[int, ...] = ()
    byweekno: tuple[int, ...] = ()
    byday: tuple[tuple[int, int], ...] = ()
    byhour: tuple[int, ...] = ()
    byminute: tuple[int, ...] = ()
    bysecond: tuple[int, ...] = ()
    bysetpos: tuple[int, ...] = ()

    @property
    def sub_daily(self) -> bool:
        """Whether the rule counts hours, minutes or seconds, and so runs in elapsed time."""
        return self.freq in ("HOURLY", "MINUTELY", "SECONDLY")


def parse_rule(text: str, line: int | None = None) -> Rule:
    """The rule that `text` ("FREQ=DAILY;BYHOUR=9") states. Raises ValidationFailed with every problem found.

    Names and values are read without regard to case (RFC 5545 section 2). `line` is where the text stood.
    """
    if len(text) > MAX_TEXT:
        raise refusal("rrule", f"the rule is longer than {MAX_TEXT} characters", line=line)
    problems: list[str] = []
    values = _values(_split(text, problems), problems)
    if "freq" not in values and not problems:
        problems.append('the rule has no FREQ, such as "FREQ=DAILY"')
    if not problems:
        rule = Rule(**values)
        problems += _conflicts(rule)
    if problems:
        found = tuple(Problem("rrule", detail, line=line) for detail in problems)
        raise ValidationFailed("; ".join(problems), errors=found)
    return rule


def _split(text: str, problems: list[str]) -> dict[str, str]:
    parts: dict[str, str] = {}
    for piece in text.upper().split(";"):
        name, equals, value = piece.partition("=")
        if not equals or not value:
            problems.append(f"{shown(piece)} is not NAME=VALUE; parts are separated by single semicolons")
        elif name not in _PARTS:
            problems.append(f"{shown(name)} is not a part of a recurrence rule.{did_you_mean(name, _PARTS)}")
        elif name in parts:
            problems.append(f"{name} stands twice; a rule has each part once")
        else:
            parts[name] = value
    return parts


def _values(parts: dict[str, str], problems: list[str]) -> dict[str, Any]:
    readers: dict[str, Callable[[str], Any]] = {
        "FREQ": lambda text: _one_of("FREQ", text, FREQUENCIES),
        "WKST": lambda text: WEEKDAYS.index(_one_of("WKST", text, WEEKDAYS)),
        "INTERVAL": lambda text: _whole("INTERVAL", text, MAX_INTERVAL),
        "COUNT": lambda text: _whole("COUNT", text, MAX_COUNT),
        "UNTIL": parse_ical_moment,
        "BYDAY": _weekdays,
    }
    values: dict[str, Any] = {}
    for name, text in parts.items():
        try:
            values[name.lower()] = readers[name](text) if name in readers else _numbers(name, text)
        except ValidationFailed as refused:
            problems.append(f"{name}: {refused.message}" if name == "UNTIL" else refused.message)
    return values


def _one_of(name: str, text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise refusal("rrule", f"{name}={shown(text)} must be one of {', '.join(known)}")
    return text


def _whole(name: str, text: str, highest: int) -> int:
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= highest:
        raise refusal("rrule", f"{name}={shown(text)} must be a whole number from 1 to {highest}")
    return int(text)


def _numbers(name: str, text: str) -> tuple[int, ...]:
    low, high, signed = _NUMBERS[name]
    found = set()
    for item in text.split(","):
        plain = _SIGNED.fullmatch(item) if signed else _WHOLE.fullmatch(item)
        if not plain or not low <= (abs(int(item)) if signed else int(item)) <= high:
            sign = f", or from -{high} to -{low}" if signed else ""
            raise refusal("rrule", f"{name} holds {shown(item)}; it takes numbers from {low} to {high}{sign}")
        found.add(int(item))
    # RFC 5545 section 3.3.12: without leap seconds, second 60 is read as 59.
    return tuple(sorted({min(number, 59) for number in found} if name == "BYSECOND" else found))


def _weekdays(text: str) -> tuple[tuple[int, int], ...]:
    found = set()
    for item in text.split(","):
        match = _BYDAY.fullmatch(item)
        if not match or (match[1] and not 1 <= abs(int(match[1])) <= 53):
            raise refusal("rrule", f"BYDAY holds {shown(item)}; it takes weekdays such as MO, 2TU or -1FR")
        found.add((int(match[1] or 0), WEEKDAYS.index(match[2])))
    return tuple(sorted(found))


def _conflicts(rule: Rule) -> list[str]:
    """What RFC 5545 section 3.3.10 forbids in combination."""
    numbered = any(ordinal for ordinal, _ in rule.byday)
    others = (rule.bymonth, rule.bymonthday, rule.byyearday, rule.byweekno, rule.byday)
    times = (rule.byhour, rule.byminute, rule.bysecond)
    checks = (
        (rule.count is not None and rule.until is not None, "COUNT and UNTIL exclude each other"),
        (
            rule.freq == "YEARLY" and rule.interval > MAX_INTERVAL_YEARS,
            f"INTERVAL={rule.interval} years is more than {MAX_INTERVAL_YEARS}",
        ),
        (
            numbered and rule.freq not in ("MONTHLY", "YEARLY"),
            f"BYDAY with a number, such as 2TU, needs FREQ=MONTHLY or YEARLY, not {rule.freq}",
        ),
        (numbered and bool(rule.byweekno), "BYDAY with a number cannot stand beside BYWEEKNO"),
        (bool(rule.byweekno) and rule.freq != "YEARLY", f"BYWEEKNO needs FREQ=YEARLY, not {rule.freq}"),
        (bool(rule.bymonthday) and rule.freq == "WEEKLY", "BYMONTHDAY cannot stand in a WEEKLY rule"),
        (
            bool(rule.byyearday) and rule.freq in ("DAILY", "WEEKLY", "MONTHLY"),
            f"BYYEARDAY cannot stand in a {rule.freq} rule",
        ),
        (
            bool(rule.bysetpos) and not any((*others, *times)),
            "BYSETPOS picks from what another BY part lists; the rule has none",
        ),
    )
    return [message for broken, message in checks if broken]
