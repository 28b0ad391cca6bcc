"""What is left of a rule when others, and dates, are taken away from it.

Two ascending streams are followed side by side. Where every instant of the one is taken away for a long time
(a rule of every second, less every second of eleven months), following is no use: as long as clocks do not
move and the taking rule's filters hold, what it took once it takes again at each step of the other, so the
search goes on where that ends. Whatever is left undecided after MAX_EXCLUDED steps is an error, not an end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from math import gcd
from zoneinfo import ZoneInfo

from engine.schedule import dst
from engine.schedule.dayfilter import day_filter, days_on
from engine.schedule.elapsed import slots_of
from engine.schedule.refusals import refusal
from engine.schedule.rule import Rule
from engine.schedule.stretches import DAY, LATEST, instant_of, seconds_of, stretch_at
from engine.schedule.subdaily import ElapsedRule

MAX_EXCLUDED = 1_000
"""Steps of one search without an occurrence that is left, after which it is given up with an error."""

_FEW = 8
_CYCLE = timedelta(days=146_097)  # 400 years; what is excluded for so long is taken to be excluded for ever
_SHIFTED = 26 * 3600  # for so long after clocks moved, a skipped wall time may still be made up for


@dataclass(frozen=True, slots=True)
class Source:
    """Ascending UTC instants, found from any instant on, and the rule that they come from, if one does.

    A calendar rule names its times of day here, also where DTSTART implied them. `holds` says at once whether an
    instant is one of them, where it can (else None).
    """

    seek: Callable[[datetime], Iterator[datetime]]
    rule: Rule | None = None
    elapsed: ElapsedRule | None = None
    until: datetime | None = None
    holds: Callable[[datetime], bool | None] | None = None

    @property
    def grain(self) -> int:
        """Seconds that divide the time between any two instants, as long as clocks do not move; 0: unknown."""
        rule = self.rule
        if rule is None:
            return 0
        spread = (_spread(rule.byhour) * 3600, _spread(rule.byminute) * 60, _spread(rule.bysecond))
        if self.elapsed is None:
            return gcd(DAY, *spread)
        lists = (
            (3600, *spread[1:]) if self.elapsed.minutes else (60, spread[2]) if self.elapsed.seconds else ()
        )
        return gcd(self.elapsed.step, *lists)


@dataclass(frozen=True, slots=True)
class Taken:
    """All that is taken away: rules, single instants, and whole local days of the zone."""

    zone: ZoneInfo
    sources: tuple[Source, ...] = ()
    instants: frozenset[datetime] = frozenset()
    days: frozenset[date] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.sources or self.instants or self.days)


def remaining(source: Source, taken: Taken, seek: datetime, end: datetime) -> Iterator[datetime]:
    """The instants of `source` from `seek` to `end` that are not taken away.

    Raises ValidationFailed when MAX_EXCLUDED steps in a row leave nothing.
    """
    cursors = [_Cursor(other) for other in taken.sources]
    stream, barren, fired, leapt = source.seek(seek), 0, seek, False
    while (instant := next(stream, None)) is not None and instant <= end:
        until = _taken_until(source, instant, taken, cursors, barren, leapt)
        if until is None:
            barren, fired = 0, instant
            yield instant
            continue
        barren += 2 if leapt and barren >= _FEW else 1  # a leap costs more
        if instant - fired > _CYCLE:
            return
        if barren > MAX_EXCLUDED:
            detail = f"more than {MAX_EXCLUDED} occurrences in a row are excluded; write a rule without them"
            raise refusal("excluded", detail)
        if leapt := until > instant:
            stream = source.seek(until)


def covered_until(taking: Source, zone: ZoneInfo, at: int, source: Source) -> int:
    """The second up to which `taking`, which has `at`, has whatever `source` may have; `at` if nothing is known.

    It holds for one stretch of constant offset, and of wall times only some while after clocks moved.
    """
    rule, elapsed, grain = taking.rule, taking.elapsed, source.grain
    if rule is None or rule.bysetpos or rule.count or not grain:
        return at
    if elapsed and grain % elapsed.step and elapsed.window != elapsed.step:
        return at
    low, high, offset = stretch_at(zone, at)
    if at - low < _SHIFTED and not (elapsed and source.elapsed):
        return at
    local, days = at + offset, day_filter(rule)
    ends = [high, _time_end(taking, local, grain) - offset]
    if elapsed is None and (rule.freq != "DAILY" or rule.interval > 1):
        ends.append((local // DAY + 1) * DAY - offset)
    elif days:
        end = (local // DAY + days_on(days, local // DAY)) * DAY - offset
        ends.append(end)
        if _by_days_alone(taking, source) and high + offset - _SHIFTED > local // DAY * DAY and end > high:
            ends = [max(high, end - _SHIFTED)]
    elif elapsed and elapsed.step == 1 and not elapsed.digits:
        ends = [LATEST]
    if taking.until:
        ends.append(seconds_of(taking.until))
    return max(min(ends), at)


def _by_days_alone(taking: Source, source: Source) -> bool:
    """Whether both count on the UTC axis and only the local date decides, so that moving clocks change nothing."""
    taken, asked = taking.elapsed, source.elapsed
    if taken is None or asked is None or taken.window > 1 or asked.window > 1:
        return False
    return all(not allowed for size, allowed in taken.digits if size != 7)


class _Cursor:
    """Where a taking source stands; it follows ascending questions, and seeks when left far behind."""

    __slots__ = ("_head", "_stream", "source")

    def __init__(self, source: Source) -> None:
        self.source = source
        self._stream: Iterator[datetime] | None = None
        self._head: datetime | None = None

    def holds(self, instant: datetime) -> bool:
        """Whether the source has `instant`, which is never before the last one asked for."""
        known = self.source.holds and self.source.holds(instant)
        return self._follows(instant) if known is None else known

    def _follows(self, instant: datetime) -> bool:
        for _ in range(8 if self._stream else 0):
            if self._head is None or self._head >= instant:
                return self._head == instant
            self._head = next(self._stream, None) if self._stream else None
        self._stream = self.source.seek(instant)
        self._head = next(self._stream, None)
        return self._head == instant


def _taken_until(
    source: Source, instant: datetime, taken: Taken, cursors: list[_Cursor], barren: int, leapt: bool
) -> datetime | None:
    """None if `instant` is left; else up to when, as far as known, nothing after it is left either."""
    if taken.days:
        day = dst.local(instant, taken.zone).date()
        if day in taken.days:
            return _after_days(day, taken)
    if instant in taken.instants:
        return instant
    for cursor in cursors:
        if cursor.holds(instant):
            if not leapt and not _worth_asking(cursor.source, source, barren):
                return instant
            return instant_of(covered_until(cursor.source, taken.zone, seconds_of(instant), source))
    return None


def _worth_asking(taking: Source, source: Source, barren: int) -> bool:
    """Whether much more may be taken than this instant. Of days most are alone, of seconds hardly any; and where
    nothing was known last time there hardly is now."""
    if taking.elapsed and source.elapsed and barren in (0, 1, 2, 4):
        return True
    return barren > 0 and barren % _FEW == 0


def _after_days(day: date, taken: Taken) -> datetime:
    while day in taken.days:
        day += timedelta(days=1)
    return dst.earliest(datetime.combine(day, time()), taken.zone)


def _time_end(taking: Source, local: int, grain: int) -> int:
    """The local second at which the time filters first refuse one of `local` and each `grain` after it.

    Digits of the clock below the grain stay as they are; midnight is looked at no further than need be.
    """
    rule, midnight = taking.rule or Rule("DAILY"), (local // DAY + 1) * DAY
    seconds = (taking.elapsed and taking.elapsed.seconds) or rule.bysecond
    if grain % 60 and seconds and len(seconds) < 60:
        return _run_end(sum(1 << second for second in seconds), local, 60, 1)
    if grain % 3600 and rule.byminute and len(rule.byminute) < 60:
        return min(_run_end(slots_of(rule.byhour, rule.byminute), local, DAY, 60), midnight)
    if grain % DAY and rule.byhour and len(rule.byhour) < 24:
        bits = slots_of(rule.byhour, None)
        end = _run_end(bits, local, DAY, 3600)
        return end if end < midnight else _run_end(bits, midnight, DAY, 3600)
    return local + int(_CYCLE / timedelta(seconds=1))


def _run_end(bits: int, local: int, span: int, unit: int) -> int:
    """Where the run of ones ends that holds `local`, whose place in `span` is counted in units."""
    begin, place = local - local % unit, local % span // unit
    rest = ~(bits >> place)
    return begin + unit * ((rest & -rest).bit_length() - 1)


def _spread(numbers: tuple[int, ...]) -> int:
    return gcd(*(number - numbers[0] for number in numbers)) if numbers else 0
