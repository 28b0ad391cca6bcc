"""The periods of a sub-daily rule, and the search for the next one that its filters allow.

The search is a leap-frog within each stretch of constant offset: to the next allowed day, to the next allowed
time, to the next period; where these do not meet soon, their residues tell when they do. So its cost depends
neither on the age of DTSTART nor, within reason, on how rarely the rule fires.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from zoneinfo import ZoneInfo

from engine.schedule.congruence import Digit, steps_to_hit
from engine.schedule.dayfilter import DayFilter, next_day
from engine.schedule.refusals import refusal
from engine.schedule.rule import Rule
from engine.schedule.stretches import DAY, LATEST, block_of, offsets_ahead, stretch_at

MAX_STEPS = 4_000
"""Leaps of one search without an occurrence, after which it is given up with an error."""
THURSDAY = 3
"""The weekday of day 0."""

_CYCLE = 146_097 * DAY  # 400 years; what does not fire within them is taken to have ended
_SOON = 8  # leaps after which residues are reckoned instead
_NEVER = 1 << 60  # more periods than there are seconds
_ALONE: tuple[tuple[int, tuple[int, ...]], ...] = ((0, (0,)),)


@dataclass(frozen=True, slots=True)
class ElapsedRule:
    """A sub-daily rule on the UTC axis, in seconds: period k is the `window` from `origin` + k * `step` on.

    A local moment counted in units since 1970 is its number; `slots` and `tail` are its allowed hours (or
    minutes) of the day and seconds of the minute as bits, `digits` the same for `steps_to_hit`.
    """

    rule: Rule
    zone: ZoneInfo
    dtstart: int
    origin: int
    unit: int
    window: int
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]
    slots: int
    tail: int
    digits: tuple[Digit, ...]
    days: DayFilter | None

    @property
    def step(self) -> int:
        """Seconds from one period to the next."""
        return self.unit * self.rule.interval


def walk(elapsed: ElapsedRule, first: int) -> Iterator[int]:
    """What `instants` gives, in seconds, as if the rule had no COUNT."""
    if elapsed.window == 1 and not elapsed.digits and not elapsed.days:
        yield from _unfiltered(elapsed, first)
        return
    number, at = _period_at(elapsed, first)
    budget = iter(range(MAX_STEPS))
    while (found := _next_period(elapsed, number, at)) is not None:
        moments = _moments_of(elapsed, found)
        for second in moments:
            if second >= first:
                yield second
        budget = iter(range(MAX_STEPS)) if moments else budget
        if not moments:
            _take(budget)  # BYSETPOS names none of what there is
        number = found + 1
        at = elapsed.origin + number * elapsed.step


def holds(elapsed: ElapsedRule, second: int) -> bool | None:
    """Whether `walk` comes to `second`; None where one period may have several moments."""
    if elapsed.window > 1:
        return None
    number, rest = divmod(second - elapsed.origin, elapsed.step)
    if rest or second < elapsed.dtstart:
        return False
    offset = stretch_at(elapsed.zone, second)[2]
    return _allows(elapsed, (elapsed.origin + offset) // elapsed.unit + number * elapsed.rule.interval)


def _unfiltered(elapsed: ElapsedRule, first: int) -> Iterator[int]:
    step = elapsed.step
    at = elapsed.origin - (elapsed.origin - first) // step * step
    while True:
        yield at
        at += step


def _period_at(elapsed: ElapsedRule, second: int) -> tuple[int, int]:
    """The period that holds `second`, or the next, and the first second of it that is not before."""
    number = max(0, (second - elapsed.origin) // elapsed.step)
    begin = elapsed.origin + number * elapsed.step
    if begin + elapsed.window <= second:
        number, begin = number + 1, begin + elapsed.step
    return number, max(begin, second)


def _next_period(elapsed: ElapsedRule, number: int, at: int) -> int | None:
    """The first period from `number` on with a moment that the filters allow, looked at from `at` in it on.

    Invariant: whatever lies before `at` is done with. Each turn settles one stretch of constant offset; a
    period across its end is looked at again with the next offset. `clear` holds, for each offset, up to which
    local moment nothing is allowed, so that a rare time of day is reckoned once and not in every stretch.
    """
    clear: dict[tuple[int, int], int] = {}
    budget, limit = iter(range(MAX_STEPS)), min(at + _CYCLE, LATEST)
    while at < limit:
        _take(budget)
        _, high, offset = stretch_at(elapsed.zone, at)
        if elapsed.days:
            day = next_day(elapsed.days, (at + offset) // DAY)
            if day is None:
                return None
            # Two days short of an allowed day no clock shows it, unless it goes back by a day before that.
            if day * DAY - offset - 3 * DAY > at and high - 2 * DAY > at:
                number, at = _period_at(elapsed, day * DAY - offset - 2 * DAY)
                continue
        found = _in_stretch(elapsed, number, (offset, min(high, limit)), clear, budget)
        if found is not None:
            return found
        number, at = _period_at(elapsed, max(high, _barren_until(elapsed, high, clear)))
    return None


def _in_stretch(
    elapsed: ElapsedRule,
    number: int,
    stretch: tuple[int, int],
    clear: dict[tuple[int, int], int],
    budget: Iterator[int],
) -> int | None:
    """The first period from `number` on that begins in the `stretch` (offset, end) with an allowed moment."""
    offset, high = stretch
    most = (high - 1 - elapsed.origin) // elapsed.step - number
    best: int | None = None
    for carry, _ in tracks_of(elapsed, offset):
        first = (elapsed.origin + offset) // elapsed.unit + number * elapsed.rule.interval + carry
        begin = max(first, clear.get((offset, carry), first))
        skipped = (begin - first) // elapsed.rule.interval
        steps = skipped + _leap_frog(elapsed, begin, most - skipped, bool(skipped), budget)
        clear[offset, carry] = first + steps * elapsed.rule.interval
        if steps <= most:
            best, most = steps, steps
    return None if best is None else number + best


def _barren_until(elapsed: ElapsedRule, at: int, clear: dict[tuple[int, int], int]) -> int:
    """The second before which no offset that the zone will ever have again lets the rule fire, if that is known."""
    numbers = []
    for offset in offsets_ahead(elapsed.zone, block_of(at)):
        first = (elapsed.origin + offset) // elapsed.unit
        for carry, _ in tracks_of(elapsed, offset):
            if (offset, carry) not in clear:
                return at
            numbers.append((clear[offset, carry] - carry - first) // elapsed.rule.interval)
    return elapsed.origin + min(numbers) * elapsed.step


def _leap_frog(elapsed: ElapsedRule, number: int, most: int, rare: bool, budget: Iterator[int]) -> int:
    """How many periods on from the local moment `number` the first is that day and time filters allow.

    Where that is more than `most`, the answer may be less than the whole truth, but none before it is.
    """
    interval, a_day = elapsed.rule.interval, DAY // elapsed.unit
    steps = turns = 0
    while steps <= most:
        day, aim = number // a_day, number
        if elapsed.days and (allowed := next_day(elapsed.days, day)) != day:
            if allowed is None:
                return _NEVER
            aim = allowed * a_day
        elif elapsed.digits and (aim := allowed_time(elapsed, number)) != number:
            rare = rare or turns > _SOON
            if rare:
                hit = steps_to_hit(number + THURSDAY * a_day, interval, elapsed.digits)
                if hit is None:
                    return _NEVER
                aim = number + hit * interval
        if aim == number:
            return steps
        leap = -((number - aim) // interval)
        steps, turns, number = steps + leap, turns + 1, number + leap * interval
        if rare:
            _take(budget)
    return steps


def allowed_time(elapsed: ElapsedRule, number: int) -> int:
    """The first local moment from `number` on that the time filters allow."""
    minute = elapsed.unit == 1
    slot, rest = divmod(number, 60) if minute else (number, 0)
    a_day = 1440 if elapsed.unit < 3600 else 24
    day, place = divmod(slot, a_day)
    bits = elapsed.slots >> place
    if bits & 1 and (tail := elapsed.tail >> rest):
        return number + _lowest(tail)
    bits &= ~1
    slot = slot + _lowest(bits) if bits else (day + 1) * a_day + _lowest(elapsed.slots)
    return slot * 60 + _lowest(elapsed.tail) if minute else slot


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def tracks_of(elapsed: ElapsedRule, offset: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """The moments of a period, in seconds from its beginning, by how many local units later they are shown.

    A period begins with a local unit until clocks move by a part of one; from then on it lies across two.
    """
    if elapsed.window == 1:
        return _ALONE
    phase = (elapsed.origin + offset) % elapsed.unit
    return _listed(elapsed.minutes, elapsed.seconds, phase, elapsed.unit)


@lru_cache(maxsize=4096)
def _listed(
    minutes: tuple[int, ...], seconds: tuple[int, ...], phase: int, unit: int
) -> tuple[tuple[int, tuple[int, ...]], ...]:
    if minutes:
        moments = sorted((60 * minute + second - phase) % 3600 for minute in minutes for second in seconds)
    else:
        moments = sorted((second - phase) % 60 for second in seconds)
    carries = sorted({(phase + moment) // unit for moment in moments})
    return tuple((c, tuple(moment for moment in moments if (phase + moment) // unit == c)) for c in carries)


def _moments_of(elapsed: ElapsedRule, number: int) -> list[int]:
    """The allowed moments of one period that has some, BYSETPOS applied."""
    begin, places = elapsed.origin + number * elapsed.step, elapsed.rule.bysetpos
    _, high, offset = stretch_at(elapsed.zone, begin)
    tracks = tracks_of(elapsed, offset)
    if begin + elapsed.window <= high and len(tracks) == 1:
        moments = picked(tracks[0][1], places) if places else tracks[0][1]
        return [begin + moment for moment in moments]
    found = tuple(sorted(_across(elapsed, number, begin)))
    return list(picked(found, places)) if places else list(found)


def _across(elapsed: ElapsedRule, number: int, begin: int) -> Iterator[int]:
    """The allowed moments of a period in which clocks may move, or which lies across two local units."""
    at, end = begin, begin + elapsed.window
    while at < end:
        _, high, offset = stretch_at(elapsed.zone, at)
        base = (elapsed.origin + offset) // elapsed.unit + number * elapsed.rule.interval
        for carry, moments in tracks_of(elapsed, offset):
            if _allows(elapsed, base + carry):
                yield from (begin + moment for moment in moments if at <= begin + moment < high)
        at = high


def _allows(elapsed: ElapsedRule, number: int) -> bool:
    day = number * elapsed.unit // DAY
    return allowed_time(elapsed, number) == number and (
        not elapsed.days or next_day(elapsed.days, day) == day
    )


@lru_cache(maxsize=1024)
def picked(moments: tuple[int, ...], places: tuple[int, ...]) -> tuple[int, ...]:
    """BYSETPOS: the named positions of a period's whole set."""
    size = len(moments)
    indices = {place - 1 if place > 0 else size + place for place in places}
    return tuple(moments[index] for index in sorted(indices) if 0 <= index < size)


def _take(budget: Iterator[int]) -> None:
    if next(budget, None) is None:
        detail = f"the next occurrence was not found in {MAX_STEPS} steps; its BY parts hardly ever meet: loosen one"
        raise refusal("too_rare", detail)
