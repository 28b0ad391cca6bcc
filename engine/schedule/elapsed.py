"""Rules that count hours, minutes or seconds, and plain intervals: elapsed time, as the local clock allows.

Sub-daily arithmetic is done on the UTC axis, where every hour is an hour: none is lost in spring, none
doubled in autumn. BY parts at or above the unit are filters on the local date and clock; those below it list
the moments within each unit. Where a filter refuses, the next allowed local time is sought in whole steps.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice
from math import gcd
from zoneinfo import ZoneInfo

from engine.schedule import dst
from engine.schedule.rule import Rule

_UNITS = {"HOURLY": timedelta(hours=1), "MINUTELY": timedelta(minutes=1), "SECONDLY": timedelta(seconds=1)}
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_AHEAD = timedelta(hours=26)
MAX_BARREN_STEPS = 5_000
"""Jumps in a row without an occurrence after which the rule is taken to have ended."""


@dataclass(frozen=True, slots=True)
class ElapsedRule:
    """A sub-daily rule on the UTC axis: periods begin at `origin` and every `step` after it."""

    rule: Rule
    zone: ZoneInfo
    dtstart: datetime
    origin: datetime
    step: timedelta
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]

    @property
    def unit(self) -> timedelta:
        """What the rule counts: an hour, a minute or a second."""
        return _UNITS[self.rule.freq]

    @property
    def lists(self) -> bool:
        """Whether several moments of each unit may be wanted, rather than its beginning."""
        return bool(self.seconds)


def prepare(rule: Rule, wall: datetime, dtstart: datetime, zone: ZoneInfo) -> ElapsedRule:
    """`rule` counted from the instant `dtstart`, at which clocks in `zone` are meant to show `wall`."""
    origin = dtstart
    minutes = rule.byminute if rule.freq == "HOURLY" else ()
    seconds = rule.bysecond if rule.freq != "SECONDLY" else ()
    if minutes:
        seconds = seconds or (wall.second,)
        origin -= timedelta(minutes=wall.minute)
    if seconds:
        origin -= timedelta(seconds=wall.second)
    return ElapsedRule(rule, zone, dtstart, origin, rule.interval * _UNITS[rule.freq], minutes, seconds)


def every(origin: datetime, step: timedelta, seek: datetime) -> Iterator[datetime]:
    """`origin` and every `step` after it, from the instant `seek` on: one division, whatever the age."""
    at = origin + max(0, -((origin - seek) // step)) * step
    while True:
        yield at
        at += step


def instants(elapsed: ElapsedRule, seek: datetime) -> Iterator[datetime]:
    """The rule's instants from `seek` (or DTSTART, if later) on, ascending; UNTIL is not looked at here."""
    first = max(seek, elapsed.dtstart)
    last = _last(elapsed) if elapsed.rule.count else None
    for instant in _candidates(elapsed, first):
        if last and instant > last:
            return
        if instant >= first:
            yield instant


def fires(elapsed: ElapsedRule) -> bool:
    """Whether the rule can ever fire, as far as BYSETPOS and the time of day tell; dates are not looked at.

    Steps of a whole number of seconds reach only every gcd(step, day)-th second of the day, moved by each
    change of the zone's offset.
    """
    rule = elapsed.rule
    largest = max(len(elapsed.minutes), 1) * max(len(elapsed.seconds), 1)
    if rule.bysetpos and min(abs(place) for place in rule.bysetpos) > largest:
        return False
    stride = timedelta(seconds=gcd(elapsed.step // _SECOND, _DAY // _SECOND))
    wall = dst.local(elapsed.origin, elapsed.zone)
    reached = range(_DAY // stride)
    if any(_on_clock(rule, wall + number * stride) for number in reached):
        return True  # found before the zone's whole future is looked at
    shifts = _shifts(elapsed.zone, elapsed.origin)
    if elapsed.lists and any(shift % elapsed.unit for shift in shifts):
        return True
    return any(_on_clock(rule, wall + shift + number * stride) for shift in shifts for number in reached)


def _shifts(zone: ZoneInfo, origin: datetime) -> set[timedelta]:
    """By how much the zone's clocks differ, within forty years, from what they show at `origin`."""
    here = dst.offset_at(origin, zone)
    return {dst.offset_at(origin + days * _DAY, zone) - here for days in range(0, 14_600, 12)}


@lru_cache(maxsize=4096)
def _last(elapsed: ElapsedRule) -> datetime | None:
    """The instant at which COUNT is used up."""
    count = elapsed.rule.count
    assert count is not None
    if not (elapsed.lists or _limits(elapsed.rule)):
        return elapsed.origin + (count - 1) * elapsed.step
    found = (at for at in _candidates(elapsed, elapsed.dtstart) if at >= elapsed.dtstart)
    return next(islice(found, count - 1, None), None)


def _limits(rule: Rule) -> bool:
    days = rule.bymonth or rule.bymonthday or rule.byyearday or rule.byday
    return bool(days or rule.byhour or rule.byminute or rule.bysecond or rule.bysetpos)


def _candidates(elapsed: ElapsedRule, first: datetime) -> Iterator[datetime]:
    origin, step = elapsed.origin, elapsed.step
    index, barren = max(0, (first - origin) // step), 0
    while barren < MAX_BARREN_STEPS:
        period = origin + index * step
        local = dst.local(period, elapsed.zone)
        target = _next_allowed(elapsed.rule, local)
        if target is None:
            return
        inside = elapsed.lists and target < local + elapsed.unit
        if target <= local or inside:
            found = _within(elapsed, period, local)
            yield from found
            barren = 0 if found else barren + 1
            index += 1
        else:
            barren += 1
            landing = _landing(elapsed.zone, period, target)
            # A period that lists moments may begin before the landing and hold it.
            index = max(
                index + 1, (landing - origin) // step if elapsed.lists else -((origin - landing) // step)
            )


def _landing(zone: ZoneInfo, period: datetime, target: datetime) -> datetime:
    """Where to go on looking when clocks must first show `target`: there, or at a nearer turning back.

    When clocks are turned back soon, wall times before `target` come round again and are not jumped over.
    """
    landing = dst.earliest(target, zone)
    ahead = min(landing, period + _AHEAD)
    if ahead <= period or dst.offset_at(ahead, zone) >= dst.offset_at(period, zone):
        return landing
    return min(landing, dst.transition_between(period, ahead, zone))


def _within(elapsed: ElapsedRule, period: datetime, local: datetime) -> list[datetime]:
    """The moments of one unit, BYSETPOS applied."""
    found = _listed(elapsed, period, local) if elapsed.lists else [period]
    if elapsed.rule.bysetpos:
        size = len(found)
        indices = {place - 1 if place > 0 else size + place for place in elapsed.rule.bysetpos}
        found = [found[index] for index in sorted(indices) if 0 <= index < size]
    return found


def _listed(elapsed: ElapsedRule, period: datetime, local: datetime) -> list[datetime]:
    """The moments within one unit at which clocks show a listed minute and second and every filter agrees.

    Where clocks move within the unit, a minute may be shown twice or never, so each is looked at.
    """
    minutes = elapsed.minutes or (local.minute,)
    if elapsed.minutes and dst.local(period + elapsed.unit, elapsed.zone) != local + elapsed.unit:
        minutes = tuple(range(60))
    offsets = sorted(
        timedelta(minutes=(minute - local.minute) % 60, seconds=(second - local.second) % 60)
        for minute in minutes
        for second in elapsed.seconds
    )
    return [at for at in (period + offset for offset in offsets) if _shows(elapsed, at)]


def _shows(elapsed: ElapsedRule, at: datetime) -> bool:
    wall = dst.local(at, elapsed.zone)
    if elapsed.minutes and wall.minute not in elapsed.minutes:
        return False
    return wall.second in elapsed.seconds and _next_allowed(elapsed.rule, wall) == wall


def _next_allowed(rule: Rule, local: datetime) -> datetime | None:
    """`local` itself if the filters allow the period that begins there, else the next local time worth a
    look; None if the calendar holds none."""
    if not _on_day(rule, local.date()):
        day = _next_day(rule, local.date())
        return datetime.combine(day, time()) if day else None
    if _on_clock(rule, local):
        return local
    if rule.byhour and local.hour not in rule.byhour:
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight + timedelta(hours=_after(rule.byhour, local.hour, 24))
    if rule.freq != "HOURLY" and rule.byminute and local.minute not in rule.byminute:
        hour = local.replace(minute=0, second=0, microsecond=0)
        return hour + timedelta(minutes=_after(rule.byminute, local.minute, 60))
    minute = local.replace(second=0, microsecond=0)
    return minute + timedelta(seconds=_after(rule.bysecond, local.second, 60))


def _on_clock(rule: Rule, local: datetime) -> bool:
    """Whether the time filters allow `local`: the BY parts at or above the rule's unit."""
    if rule.byhour and local.hour not in rule.byhour:
        return False
    if rule.freq != "HOURLY" and rule.byminute and local.minute not in rule.byminute:
        return False
    return not (rule.freq == "SECONDLY" and rule.bysecond and local.second not in rule.bysecond)


def _after(allowed: tuple[int, ...], value: int, otherwise: int) -> int:
    place = bisect_left(allowed, value)
    return allowed[place] if place < len(allowed) else otherwise


def _next_day(rule: Rule, day: date) -> date | None:
    """The first allowed day after `day`, within one 400-year cycle."""
    end = day.replace(year=day.year + 400, day=min(day.day, 28))
    while day < end:
        day += _DAY
        if rule.bymonth and day.month not in rule.bymonth:
            day = day.replace(day=28) + 4 * _DAY
            day = day.replace(day=1) - _DAY
        elif _on_day(rule, day):
            return day
    return None


def _on_day(rule: Rule, day: date) -> bool:
    """Whether the date filters of a sub-daily rule allow `day`."""
    if rule.bymonth and day.month not in rule.bymonth:
        return False
    if rule.byday and (0, day.weekday()) not in rule.byday:
        return False
    if rule.bymonthday:
        length = ((day.replace(day=28) + 4 * _DAY).replace(day=1) - _DAY).day
        if day.day not in rule.bymonthday and day.day - length - 1 not in rule.bymonthday:
            return False
    if rule.byyearday:
        number, days = day.timetuple().tm_yday, date(day.year, 12, 31).timetuple().tm_yday
        return number in rule.byyearday or number - days - 1 in rule.byyearday
    return True
