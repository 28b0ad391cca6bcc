"""Dates and times as texts write them: iCalendar's basic form and ISO 8601.

A moment is a date (a whole local day), a naive datetime (wall time in the schedule's zone) or an aware one
(an instant); which of them was written is kept, because the three mean different things in a schedule.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from engine.schedule.dst import DstPolicy, local, resolve
from engine.schedule.refusals import refusal, shown

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

FIRST_YEAR, LAST_YEAR = 1900, 9000  # what a schedule may name; leaves room for offsets and 400-year searches

_ICAL = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)(Z)?)?", re.ASCII)


def parse_ical_moment(text: str) -> date | datetime:
    """RFC 5545 sections 3.3.4 and 3.3.5: "20261231", "20261231T090000" or "20261231T090000Z"."""
    match = _ICAL.fullmatch(text)
    if match is None:
        raise refusal(
            "date", f"{shown(text)} is not a date-time such as 20261231T090000Z, 20261231T090000 or 20261231"
        )
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    try:
        if match[4] is None:
            return in_years(date(year, month, day))
        moment = datetime(year, month, day, hour, minute, 59 if second == 60 else second)  # noqa: DTZ001 wall
    except ValueError as wrong:
        raise refusal("date", f"{shown(text)} is no date of the calendar: {wrong}") from None
    return in_years(moment.replace(tzinfo=UTC) if match[7] else moment)


def parse_moment(value: object, pointer: str = "") -> date | datetime:
    """A date, a datetime or ISO 8601 text as the moment it names. Raises ValidationFailed otherwise."""
    if isinstance(value, str):
        text = value.strip()
        try:
            if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
                return in_years(date.fromisoformat(text), pointer)
            if re.match(r"\d{4}-?\d\d-?\d\dT\d", text.replace(" ", "T", 1), re.ASCII):
                return in_years(datetime.fromisoformat(text), pointer)
        except ValueError as wrong:
            raise refusal("date", f"{shown(value)} is not a date-time: {wrong}", pointer) from None
    elif isinstance(value, date):
        return in_years(value, pointer)
    raise refusal(
        "date",
        f"{shown(value)} is not a date-time: write it like 2026-12-01T09:00:00 or with an offset",
        pointer,
    )


def in_years(moment: date | datetime, pointer: str = "") -> date | datetime:
    """`moment`, if its year is one that a schedule may name."""
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise refusal("date", f"the year {moment.year} is outside {FIRST_YEAR} to {LAST_YEAR}", pointer)
    return moment


def checked_start(start: object) -> datetime:
    """`start`, if it is a datetime of a year that a schedule may name. Raises ValidationFailed otherwise."""
    if not isinstance(start, datetime):
        raise refusal("date", f"start={shown(start)} must be a datetime", "/start")
    in_years(start, "/start")
    return start


def wall_of(moment: datetime, zone: ZoneInfo) -> datetime:
    """The naive wall time in `zone` of a naive or aware `moment`."""
    return moment if moment.tzinfo is None else local(moment.astimezone(UTC), zone)


def instants_of(moment: datetime, zone: ZoneInfo, policy: DstPolicy) -> tuple[datetime, ...]:
    """The UTC instants of a naive (resolved in `zone`) or aware `moment`."""
    return (moment.astimezone(UTC),) if moment.tzinfo else resolve(moment, zone, policy)
