"""A recurrence rule in plain words, or None where no short sentence is true of it."""

from __future__ import annotations

from engine.schedule.kinds import Frame
from engine.schedule.phrases import (
    DAY_NAMES,
    MONTH_NAMES,
    day_kind,
    hour_window,
    listed,
    minutes_words,
    months,
    numbers,
    on_weekdays,
    ordinal,
    times_words,
    weekdays,
)
from engine.schedule.rruler import CalendarRule, prepare
from engine.schedule.rule import Rule

_UNITS = {
    "YEARLY": "year",
    "MONTHLY": "month",
    "WEEKLY": "week",
    "DAILY": "day",
    "HOURLY": "hour",
    "MINUTELY": "minute",
    "SECONDLY": "second",
}
_IN_AN_HOUR = {"HOURLY": 1, "MINUTELY": 60, "SECONDLY": 3600}


def rule_words(rule: Rule, frame: Frame) -> str | None:
    """`rule`, as it is read in `frame`: "every month on the last weekday at 17:00, 12 times"."""
    words = _elapsed(rule) if rule.sub_daily else _calendar(rule, frame)
    return f"{words}{_bounds(rule)}" if words else None


def _bounds(rule: Rule) -> str:
    if rule.count:
        return f", {rule.count} time{'s' if rule.count > 1 else ''}"
    return f", until {rule.until.isoformat()}" if rule.until else ""


def _each(rule: Rule) -> str:
    unit = _UNITS[rule.freq]
    return f"every {unit}" if rule.interval == 1 else f"every {rule.interval} {unit}s"


def _elapsed(rule: Rule) -> str | None:
    """A rule that counts hours, minutes or seconds. What limits it is a window on what clocks show."""
    listing = rule.byminute if rule.freq == "HOURLY" else ()
    if rule.bysetpos or rule.bysecond or rule.byyearday or (rule.byminute and not listing):
        return None
    minutes = minutes_words(listing) if listing else ""
    window = hour_window(rule.byhour) if rule.byhour else ""
    days = _filter(rule)
    if minutes is None or window is None or days is None:
        return None
    filtered = window or days or rule.bymonth
    even = _IN_AN_HOUR[rule.freq] % rule.interval == 0
    phase = "" if even or not filtered else ", counted from the start,"
    at = f" {minutes}" if minutes else ""
    return f"{_each(rule)}{at}{phase}{window}{days}{months(rule.bymonth)}"


def _filter(rule: Rule) -> str | None:
    """The days to which a sub-daily rule is limited."""
    if rule.bymonthday:
        found = _month_days(rule)
        return f" on {found} of the month" if found and not rule.byday else None
    return on_weekdays([day for _, day in rule.byday]) if rule.byday else ""


def _calendar(rule: Rule, frame: Frame) -> str | None:
    full = prepare(rule, frame.wall)
    at = times_words(full.times)
    days = _picked(full) if rule.bysetpos else _days(full.rule)
    if days is None or at is None:
        return None
    only = "" if rule.freq == "YEARLY" else months(full.rule.bymonth)
    return f"{days} {at}{only}" if at.startswith("at ") else f"{days}, {at}{only}"


def _picked(full: CalendarRule) -> str | None:
    """BYSETPOS: one of the days that BYDAY lists in a month, at the one time of day there is."""
    rule = full.rule
    plain = rule.byday and not any(n for n, _ in rule.byday) and len(full.times) == 1
    if not plain or rule.bymonthday or rule.byyearday or rule.byweekno:
        return None
    places = sorted(rule.bysetpos, key=lambda place: (place < 0, place))
    which = listed([ordinal(place) for place in places])
    days = f"the {which} {day_kind([day for _, day in rule.byday])}"
    if rule.freq == "MONTHLY":
        return f"{_each(rule)} on {days}"
    if rule.freq == "YEARLY" and len(rule.bymonth) <= 1:
        period = MONTH_NAMES[rule.bymonth[0] - 1] if rule.bymonth else "the year"
        return f"{_each(rule)} on {days} of {period}"
    return None


def _days(rule: Rule) -> str | None:
    """The days of a calendar rule whose parts are all explicit; months are named by the caller, if not YEARLY."""
    return {"DAILY": _daily, "WEEKLY": _weekly, "MONTHLY": _monthly, "YEARLY": _yearly}[rule.freq](rule)


def _daily(rule: Rule) -> str | None:
    if rule.interval > 1:
        return None if rule.byday or rule.bymonthday else _each(rule)
    if rule.bymonthday:
        found = _in_month(rule)
        return f"every month on {found}" if found else None
    return weekdays([day for _, day in rule.byday]) if rule.byday else "every day"


def _weekly(rule: Rule) -> str:
    names = weekdays([day for _, day in rule.byday])
    if rule.interval == 1:
        return names
    weeks = f", weeks beginning on {DAY_NAMES[rule.wkst]}," if rule.wkst else ""
    return f"{_each(rule)}{weeks} on {names.removeprefix('every ')}"


def _monthly(rule: Rule) -> str | None:
    if _all_weeks(rule):
        return weekdays([day for _, day in rule.byday])
    found = _in_month(rule)
    return f"{_each(rule)} on {found}" if found else None


def _all_weeks(rule: Rule) -> bool:
    """Whether a rule of months or years names weekdays and nothing else, and so fires in every week."""
    others = rule.bymonth or rule.bymonthday or any(n for n, _ in rule.byday)
    return bool(rule.byday) and rule.interval == 1 and not others


def _yearly(rule: Rule) -> str | None:
    if rule.byyearday:
        alone = not (rule.bymonth or rule.bymonthday or rule.byday or rule.byweekno)
        found = _counted(rule.byyearday) if alone else None
        return f"{_each(rule)} on {found} of the year" if found else None
    if rule.byweekno:
        return _numbered_weeks(rule)
    found = _in_month(rule)
    if found is None or _all_weeks(rule):
        return weekdays([day for _, day in rule.byday]) if found else None
    if rule.bymonth:
        return f"{_each(rule)} in {listed([MONTH_NAMES[m - 1] for m in rule.bymonth])} on {found}"
    return f"{_each(rule)} on {found} of {'every month' if rule.bymonthday else 'the year'}"


def _numbered_weeks(rule: Rule) -> str | None:
    alone = not (rule.bymonth or rule.bymonthday or rule.wkst) and min(rule.byweekno) > 0
    weeks = numbers(rule.byweekno) if alone else None
    if weeks is None:
        return None
    names = weekdays([day for _, day in rule.byday]).removeprefix("every ")
    return f"{_each(rule)} in week{'s' if len(rule.byweekno) > 1 else ''} {weeks} on {names}"


def _in_month(rule: Rule) -> str | None:
    """Days by number, by weekday, or by both."""
    found = _month_days(rule) if rule.bymonthday else ""
    if not rule.byday:
        return found
    if rule.bymonthday:
        plain = found and not any(n for n, _ in rule.byday)
        return f"{found} if it is a {day_kind([day for _, day in rule.byday])}" if plain else None
    return listed(
        [f"the {ordinal(n)} {DAY_NAMES[day]}" if n else f"every {DAY_NAMES[day]}" for n, day in rule.byday]
    )


def _month_days(rule: Rule) -> str | None:
    return _counted(rule.bymonthday)


def _counted(days: tuple[int, ...]) -> str | None:
    """ "day 1 and 15", "the last day", "day 1 and the second last day"."""
    front = [day for day in days if day > 0]
    named = numbers(front) if front else ""
    if named is None:
        return None
    back = [f"the {ordinal(day)} day" for day in sorted(days, reverse=True) if day < 0]
    return listed([*([f"day {named}"] if front else []), *back])
