"""Rules that count hours, minutes or seconds, and plain intervals: elapsed time, as the local clock allows.

Sub-daily arithmetic is done on the UTC axis, where every hour is an hour: none is lost in spring, none
doubled in autumn. Periods begin at DTSTART and every INTERVAL units after it. BY parts at or above the unit
are filters on the local date and clock (a local hour that comes twice passes twice, one that is skipped not
at all); those below it list the moments within each period. COUNT and BYSETPOS count what the filters leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from engine.schedule.congruence import Digit, steps_to_hit
from engine.schedule.dayfilter import day_filter, is_empty, next_day
from engine.schedule.rule import Rule
from engine.schedule.stretches import DAY, block_of, instant_of, offsets_ahead, seconds_of, stretch_at
from engine.schedule.subdaily import THURSDAY, ElapsedRule, allowed_time, picked, tracks_of, walk

_UNITS = {"HOURLY": 3600, "MINUTELY": 60, "SECONDLY": 1}
_BLOCK = 16 * 366 * DAY
"""What is gone of a COUNT is reckoned, once, up to the instant that is asked for and at most this far beyond."""


def prepare(rule: Rule, wall: datetime, dtstart: datetime, zone: ZoneInfo) -> ElapsedRule:
    """`rule` counted from the instant `dtstart`, at which clocks in `zone` are meant to show `wall`."""
    origin = start = seconds_of(dtstart)
    unit, window = _UNITS[rule.freq], 1
    minutes = rule.byminute if rule.freq == "HOURLY" else ()
    seconds = rule.bysecond if rule.freq != "SECONDLY" else ()
    if minutes:
        seconds, window = seconds or (wall.second,), 3600
        origin -= 60 * wall.minute
    if seconds:
        window = max(window, 60)
        origin -= wall.second
    slots, tail, digits = _clock(rule)
    return ElapsedRule(
        rule, zone, start, origin, unit, window, minutes, seconds, slots, tail, digits, day_filter(rule)
    )


def every(origin: datetime, step: timedelta, seek: datetime) -> Iterator[datetime]:
    """`origin` and every `step` after it, from the instant `seek` on: one division, whatever the age."""
    at = origin + max(0, -((origin - seek) // step)) * step
    while True:
        yield at
        at += step


def instants(elapsed: ElapsedRule, seek: datetime) -> Iterator[datetime]:
    """The rule's instants from `seek` (or DTSTART, if later) on, ascending; UNTIL is not looked at here.

    Raises ValidationFailed when a search takes more than MAX_STEPS leaps.
    """
    first = max(seconds_of(seek), elapsed.dtstart)
    if elapsed.rule.count is None:
        return map(instant_of, walk(elapsed, first))
    return map(instant_of, _counted(elapsed, first, elapsed.rule.count))


def fires(elapsed: ElapsedRule) -> bool:
    """Whether the rule can ever fire: BYSETPOS has something to pick, a day is allowed, and so is a time of
    some weekday that the periods reach under an offset that the zone has or will have."""
    rule = elapsed.rule
    largest = max(len(elapsed.minutes), 1) * max(len(elapsed.seconds), 1)
    if rule.bysetpos and min(abs(place) for place in rule.bysetpos) > largest:
        return False
    if elapsed.days and is_empty(elapsed.days):
        return False
    present = stretch_at(elapsed.zone, elapsed.dtstart)[2]
    if _reaches(elapsed, present):
        return True  # found before the zone's whole future is looked at
    ahead = offsets_ahead(elapsed.zone, block_of(elapsed.dtstart))
    return any(_reaches(elapsed, offset) for offset in ahead - {present})


def _clock(rule: Rule) -> tuple[int, int, tuple[Digit, ...]]:
    """The time filters of a rule, as bits and as digits."""
    below = rule.byminute if rule.freq != "HOURLY" else ()
    lowest = rule.bysecond if rule.freq == "SECONDLY" else ()
    weekdays = tuple(weekday for _, weekday in rule.byday)
    digits: list[Digit] = [(60, _unless_all(lowest, 60)), (60, _unless_all(below, 60))]
    digits += [(24, _unless_all(rule.byhour, 24)), (7, _unless_all(weekdays, 7))]
    while digits and not digits[-1][1]:
        digits.pop()
    fewer = {"HOURLY": 2, "MINUTELY": 1, "SECONDLY": 0}[rule.freq]
    tail = _bits(lowest or tuple(range(60))) if rule.freq == "SECONDLY" else 1
    return slots_of(rule.byhour, None if rule.freq == "HOURLY" else below), tail, tuple(digits[fewer:])


def _unless_all(allowed: tuple[int, ...], size: int) -> tuple[int, ...]:
    return allowed if len(allowed) < size else ()


@lru_cache(maxsize=1024)
def slots_of(hours: tuple[int, ...], minutes: tuple[int, ...] | None) -> int:
    """The allowed hours, or where `minutes` is not None the allowed minutes, of a day as bits."""
    hours = hours or tuple(range(24))
    if minutes is None:
        return _bits(hours)
    each = _bits(minutes or tuple(range(60)))
    return sum(each << 60 * hour for hour in hours)


def _bits(numbers: tuple[int, ...]) -> int:
    return sum(1 << number for number in numbers)


def _reaches(elapsed: ElapsedRule, offset: int) -> bool:
    """Whether the periods ever meet an allowed time of an allowed weekday, if clocks stay at `offset`."""
    base = (elapsed.origin + offset) // elapsed.unit + THURSDAY * (DAY // elapsed.unit)
    return any(
        steps_to_hit(base + carry, elapsed.rule.interval, elapsed.digits) is not None
        for carry, _ in tracks_of(elapsed, offset)
    )


def _counted(elapsed: ElapsedRule, first: int, count: int) -> Iterator[int]:
    """COUNT: what is gone of it is looked up only when an instant comes that may lie beyond its end."""
    end = _soonest_end(elapsed, count)
    for second in walk(elapsed, first):
        if second > end:
            left, end = _tally(elapsed, second)
            if not left and second > end:
                return
        yield second


def _soonest_end(elapsed: ElapsedRule, count: int) -> int:
    """A second before which COUNT cannot be used up: neither periods nor days hold more than so much."""
    moments = max(len(elapsed.minutes), 1) * max(len(elapsed.seconds), 1)
    by_periods = elapsed.origin + (count - 1) // moments * elapsed.step
    a_day = 2 * moments * elapsed.slots.bit_count() * elapsed.tail.bit_count()
    return max(by_periods, elapsed.dtstart + (count - 1) // a_day * DAY)


def _tally(elapsed: ElapsedRule, second: int) -> tuple[int, int]:
    """(left, end): what is left of COUNT after a time not before `second`, and up to when it has not run out."""
    left, at = elapsed.rule.count or 0, elapsed.dtstart
    while left and at <= second:
        left, at = _count(elapsed, left, at, at + _BLOCK)
    return left, at - bool(left)


@lru_cache(maxsize=8192)
def _count(elapsed: ElapsedRule, left: int, at: int, until: int) -> tuple[int, int]:
    """What is left of `left` occurrences when those from `at` to before `until` are gone, and `until`; or 0
    and the second of the last.

    Local days on which clocks do not move are counted whole, by where in them the first period falls; only
    the others are walked through, and everything where periods are rarer than days.
    """
    while at < until:
        _, high, offset = stretch_at(elapsed.zone, at)
        high = edge = min(high, until)
        if elapsed.step < DAY:
            if (at + offset) % DAY == 0:
                day, left = _count_days(elapsed, offset, (at + offset) // DAY, (high + offset) // DAY, left)
                if (at := day * DAY - offset) >= high:
                    continue
            edge = min(high, ((at + offset) // DAY + 1) * DAY - offset)
        for second in walk(elapsed, at):
            if second >= edge:
                break
            left -= 1
            if not left:
                return 0, second
        else:
            break
        at = max(edge, min(second, until)) if second >= high else edge
    return left, until


def _count_days(elapsed: ElapsedRule, offset: int, day: int, until: int, left: int) -> tuple[int, int]:
    """From which day on, up to `until`, fewer than all `left` occurrences are gone, and how many remain then."""
    a_day, interval, places = DAY // elapsed.unit, elapsed.rule.interval, elapsed.rule.bysetpos
    base, tracks = (elapsed.origin + offset) // elapsed.unit, tracks_of(elapsed, offset)
    if places and len(tracks) > 1:
        return day, left
    counts: dict[int, int] = {}
    weights = [(base + carry, len(picked(each, places) if places else each)) for carry, each in tracks]
    while day < until:
        if elapsed.days:
            allowed = next_day(elapsed.days, day)
            if allowed is None or allowed >= until:
                return until, left
            day = allowed
        found = 0
        for number, weight in weights:
            start = (number - day * a_day) % interval
            if start not in counts:
                counts[start] = _count_in_day(elapsed, start)
            found += weight * counts[start]
        if found >= left:
            break
        day, left = day + 1, left - found
    return day, left


def _count_in_day(elapsed: ElapsedRule, number: int) -> int:
    """How many of `number` and every INTERVAL-th after it are allowed times of one day."""
    interval, a_day, found = elapsed.rule.interval, DAY // elapsed.unit, 0
    if interval == 1:
        return elapsed.slots.bit_count() * elapsed.tail.bit_count()
    while number < a_day:
        aim = allowed_time(elapsed, number)
        found += aim == number
        number += -((number - aim) // interval) * interval or interval
    return found
