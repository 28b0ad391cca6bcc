"""Phrases of which sentences about schedules are made: days, months, times of day and windows.

Each says exactly what it is given, or answers None where that would take a list nobody reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import time
from itertools import pairwise

DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTH_NAMES = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
ORDINALS = ("first", "second", "third", "fourth", "fifth")
LISTED = 6
"""Times of day that are listed, at most."""
NUMBERED = 12
"""Hours, minutes or days of the month that are listed, at most."""


def listed(words: Sequence[str], last: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def ordinal(number: int) -> str:
    """ "second", "20th", "last", "second last"."""
    if number == -1:
        return "last"
    word = ORDINALS[abs(number) - 1] if abs(number) <= len(ORDINALS) else _numeral(abs(number))
    return word if number > 0 else f"{word} last"


def numbers(values: Sequence[int]) -> str | None:
    """Ascending numbers: "1, 2 and 5", or "1 to 7" where they follow each other."""
    if len(values) > 2 and _step(values) == 1:
        return f"{values[0]} to {values[-1]}"
    return listed([str(value) for value in values]) if len(values) <= NUMBERED else None


def weekdays(days: Sequence[int]) -> str:
    """ "every weekday", "every Monday and Friday"; Monday is 0."""
    if list(days) == [0, 1, 2, 3, 4]:
        return "every weekday"
    return "every day" if len(days) == 7 else f"every {listed([DAY_NAMES[day] for day in days])}"


def on_weekdays(days: Sequence[int]) -> str:
    """ " on weekdays", " on Mondays and Fridays"; nothing for the whole week."""
    if list(days) == [0, 1, 2, 3, 4]:
        return " on weekdays"
    return "" if len(days) == 7 else f" on {listed([f'{DAY_NAMES[day]}s' for day in days])}"


def day_kind(days: Sequence[int]) -> str:
    """One day of these, to stand after "the last": "weekday", "Monday or Friday"."""
    known = {(0, 1, 2, 3, 4): "weekday", (5, 6): "weekend day", (0, 1, 2, 3, 4, 5, 6): "day"}
    return known.get(tuple(days)) or listed([DAY_NAMES[day] for day in days], "or")


def months(names: Sequence[int]) -> str:
    """ ", only in June and July"; nothing for the whole year."""
    whole = not names or len(names) == 12
    return "" if whole else f", only in {listed([MONTH_NAMES[month - 1] for month in names])}"


def clock_words(times: Sequence[time]) -> str | None:
    """ "08:30 and 17:00"; None where there are too many times to list."""
    if len(times) > LISTED:
        return None
    return listed([at.isoformat("seconds" if at.second else "minutes") for at in times])


def times_words(times: Sequence[time]) -> str | None:
    """ "at 08:30 and 17:00", "every 15 minutes from 09:00 to 16:59", "every 2 hours from 00:30 to 22:30"."""
    at = clock_words(times)
    if at is not None:
        return f"at {at}"
    hours, minutes = (sorted({getattr(each, unit) for each in times}) for unit in ("hour", "minute"))
    if len(times) != len(hours) * len(minutes) or any(each.second for each in times):
        return None
    if len(minutes) == 1:
        return _hourly(hours, minutes[0])
    often, window = _often(minutes), hour_window(hours)
    return None if often is None or window is None else f"{often}{window}"


def hour_window(hours: Sequence[int]) -> str | None:
    """ " from 09:00 to 16:59", " in the hours 9 and 12"; nothing for the whole day."""
    if len(hours) == 24:
        return ""
    if len(hours) == 1 or _step(hours) == 1:
        return f" from {hours[0]:02}:00 to {hours[-1]:02}:59"
    found = numbers(hours)
    return f" in the hours {found}" if found else None


def minutes_words(minutes: Sequence[int]) -> str | None:
    """ "at minute 30", "at minutes 0 and 30"."""
    found = numbers(minutes)
    return f"at minute{'s' if len(minutes) > 1 else ''} {found}" if found else None


def _often(minutes: Sequence[int]) -> str | None:
    step = _step(minutes)
    if step and minutes[0] == 0 and step * len(minutes) == 60:
        return "every minute" if step == 1 else f"every {step} minutes"
    found = minutes_words(minutes)
    return f"every hour {found}" if found else None


def _hourly(hours: Sequence[int], minute: int) -> str | None:
    step = _step(hours)
    if len(hours) == 24:
        return f"every hour at minute {minute}"
    if step is None:
        found = numbers(hours)
        return f"at minute {minute} of the hours {found}" if found else None
    each = "hour" if step == 1 else f"{step} hours"
    return f"every {each} from {hours[0]:02}:{minute:02} to {hours[-1]:02}:{minute:02}"


def _step(values: Sequence[int]) -> int | None:
    """The distance between neighbours, if it is the same for all."""
    steps = {later - earlier for earlier, later in pairwise(values)}
    return steps.pop() if len(steps) == 1 else None


def _numeral(number: int) -> str:
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
