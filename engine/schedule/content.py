"""iCalendar content lines: DTSTART, RRULE, EXRULE, RDATE and EXDATE as one text (RFC 5545 section 3.1).

A bare rule ("FREQ=DAILY") is read as one RRULE line. Lines may be folded, and end in CRLF or LF. Only these
five properties are read; a whole VEVENT is refused, since the rest of it would be ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

from engine.schedule.moments import parse_ical_moment
from engine.schedule.refusals import did_you_mean, refusal, shown
from engine.schedule.rule import Rule, parse_rule
from engine.schedule.zones import load_zone

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

MAX_TEXT = 16_384
MAX_RULES = 10
MAX_DATES = 1_000

_BLANK = " \t\r\n"
_PROPERTIES = ("DTSTART", "RRULE", "EXRULE", "RDATE", "EXDATE")
_LINE = re.compile(r"([A-Za-z-]+)((?:;[A-Za-z-]+=(?:\"[^\"]*\"|[^;:\"]*))*):(.*)", re.ASCII)
_VALUES = {
    "DTSTART": ("DATE-TIME", "DATE"),
    "EXDATE": ("DATE-TIME", "DATE"),
    "RDATE": ("DATE-TIME", "DATE", "PERIOD"),
}
_DURATION = re.compile(r"\+?P(?:\d+W|(?=[\dT])(?:\d+D)?(?:T(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+S)?)?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ZonedMoment:
    """A moment and the zone of its TZID; None means that of the schedule."""

    moment: date | datetime
    zone: ZoneInfo | None = None


@dataclass(slots=True)
class Content:
    """What the lines said, in their order."""

    dtstart: ZonedMoment | None = None
    rules: list[Rule] = field(default_factory=list)
    exrules: list[Rule] = field(default_factory=list)
    rdates: list[ZonedMoment] = field(default_factory=list)
    exdates: list[ZonedMoment] = field(default_factory=list)


def parse_content(text: str) -> Content:
    """The recurrence that `text` states. Raises ValidationFailed with the line of the first problem."""
    if len(text) > MAX_TEXT:
        raise refusal("rrule", f"the recurrence is longer than {MAX_TEXT} characters")
    content = Content()
    for number, line in _unfolded(text):
        _read(line if ":" in line else f"RRULE:{line}", number, content)
    if not (content.rules or content.rdates):
        raise refusal("rrule", 'there is no rule: write one like "FREQ=DAILY;BYHOUR=9", or RDATE lines')
    if len(content.rules) + len(content.exrules) > MAX_RULES:
        raise refusal("rrule", f"there are more than {MAX_RULES} RRULE and EXRULE lines")
    if len(content.rdates) + len(content.exdates) > MAX_DATES:
        raise refusal("rrule", f"there are more than {MAX_DATES} RDATE and EXDATE values")
    _check_until(content)
    _check_times(content)
    return content


def _unfolded(text: str) -> list[tuple[int, str]]:
    """Logical lines with the number of their first physical line; a leading blank continues a line."""
    lines: list[tuple[int, str]] = []
    for number, raw in enumerate(text.strip(_BLANK).replace("\r\n", "\n").split("\n"), start=1):
        if raw[:1] in (" ", "\t") and lines:
            lines[-1] = (lines[-1][0], lines[-1][1] + raw[1:])
        elif raw.strip(_BLANK):
            lines.append((number, raw.rstrip(_BLANK)))
    return lines


def _read(line: str, number: int, content: Content) -> None:
    if not line.isascii():  # some letters become ASCII when their case is changed, as the long s does
        strange = next(letter for letter in line if not letter.isascii())
        raise refusal("rrule", f"{shown(strange)} is not an ASCII character; all of a rule is", line=number)
    match = _LINE.fullmatch(line)
    if match is None:
        raise refusal("rrule", f"{shown(line)} is not a content line such as RRULE:FREQ=DAILY", line=number)
    name = match[1].upper()
    if name not in _PROPERTIES:
        hint = did_you_mean(name, _PROPERTIES) or f" It takes {', '.join(_PROPERTIES)}."
        raise refusal("rrule", f"{shown(name)} is not a property of a recurrence.{hint}", line=number)
    if name in ("RRULE", "EXRULE"):
        if match[2]:
            raise refusal("rrule", f"{name} takes no parameters", line=number)
        (content.rules if name == "RRULE" else content.exrules).append(parse_rule(match[3], number))
        return
    moments = _moments(name, match[2], match[3], number)
    if name != "DTSTART":
        (content.rdates if name == "RDATE" else content.exdates).extend(moments)
    elif content.dtstart or len(moments) != 1:
        raise refusal("rrule", "DTSTART stands once and holds one date-time", line=number)
    else:
        content.dtstart = moments[0]


def _moments(name: str, parameters: str, value: str, number: int) -> list[ZonedMoment]:
    settings = _parameters(name, parameters, number)
    kind = settings.get("VALUE", "").upper()
    zone = load_zone(settings["TZID"]) if "TZID" in settings else None
    found = []
    for item in value.split(","):
        moment = _period_start(item.upper(), number) if kind == "PERIOD" else parse_ical_moment(item.upper())
        if isinstance(moment, datetime) == (kind == "DATE"):
            wanted = "VALUE=DATE" if kind != "DATE" else "a date without a time"
            raise refusal("rrule", f"{name} holds {shown(item)}, which needs {wanted}", line=number)
        if zone and (not isinstance(moment, datetime) or moment.tzinfo):
            raise refusal("rrule", f"{name} holds {shown(item)}, which cannot have a TZID", line=number)
        found.append(ZonedMoment(moment, zone))
    return found


def _period_start(text: str, number: int) -> date | datetime:
    """RFC 5545 section 3.3.9: where a period begins; its end, of no use here, must still make sense."""
    begin, _, end = text.partition("/")
    first = parse_ical_moment(begin)
    if _DURATION.fullmatch(end) and end.strip("+PTWDHMS0"):
        return first
    last = first if end[:1] in ("", "P", "+", "-") else parse_ical_moment(end)
    alike = isinstance(first, datetime) and isinstance(last, datetime) and first.tzinfo == last.tzinfo
    if not alike or last <= first:
        detail = (
            f"{shown(text)} is not a period: write its start, / and a later end or a duration such as PT1H"
        )
        raise refusal("rrule", detail, line=number)
    return first


def _parameters(name: str, text: str, number: int) -> dict[str, str]:
    settings: dict[str, str] = {}
    for piece in text.split(";")[1:]:
        key, _, value = piece.partition("=")
        key = key.upper()
        if key in settings or key not in ("VALUE", "TZID"):
            raise refusal("rrule", f"{name} has the parameter {shown(key)} twice or unknown", line=number)
        settings[key] = value.strip('"')
    kinds = _VALUES[name]
    if settings.get("VALUE", "DATE-TIME").upper() not in kinds:
        raise refusal("rrule", f"{name};VALUE must be one of {', '.join(kinds)}", line=number)
    return settings


def _check_until(content: Content) -> None:
    """RFC 5545 section 3.3.10: UNTIL has DTSTART's value type, and is UTC where DTSTART has a zone."""
    if content.dtstart is None:
        return
    start = content.dtstart.moment
    dated = not isinstance(start, datetime)
    zoned = isinstance(start, datetime) and bool(start.tzinfo or content.dtstart.zone)
    for rule in (*content.rules, *content.exrules):
        if rule.until is None:
            continue
        if isinstance(rule.until, datetime) is dated:
            raise refusal(
                "rrule", "UNTIL must be a date where DTSTART is one, and a date-time where it is one"
            )
        if zoned and isinstance(rule.until, datetime) and rule.until.tzinfo is None:
            raise refusal("rrule", "UNTIL must be in UTC, ending in Z, where DTSTART has a time zone")


def _check_times(content: Content) -> None:
    """RFC 5545 section 3.3.10: a DTSTART that is a date has no time of day for a rule to set."""
    if content.dtstart is None or isinstance(content.dtstart.moment, datetime):
        return
    if any(rule.byhour or rule.byminute or rule.bysecond for rule in (*content.rules, *content.exrules)):
        detail = "BYHOUR, BYMINUTE and BYSECOND need a DTSTART with a time of day; this one is a date"
        raise refusal("rrule", detail)
