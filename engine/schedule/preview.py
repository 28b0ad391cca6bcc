"""A schedule before it happens: its next instants, and what the days on which clocks change do to them.

Pure, like the schedule itself: API, command line and the plan of `apply` show what this says. An instant is
marked where its day is not like other days; what the text names and does not fire is listed beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from heapq import merge
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

from engine.schedule import cron, dst, moments, rruler
from engine.schedule.content import parse_content
from engine.schedule.refusals import shown
from engine.schedule.schedules import UNTIMED, Schedule, restore_schedule
from engine.schedule.words import describe

YEAR = timedelta(days=365)
"""How far ahead clock changes are looked for."""
MOST_LEFT_OUT = 100
"""Instants left out that a preview names, at most."""
MOST_OF_A_DAY = 5
"""Instants that are shown of a day on which clocks change, at most."""
MOST_NEAR_A_CHANGE = 64
"""Instants that are looked at around a clock change, at most."""
_DAY = timedelta(days=1)
_TICK = timedelta(microseconds=1)
_STRIDE = timedelta(days=4)  # no zone ever changed its clocks twice within it
_SHIFTED = dst.DstPolicy()
_BOTH = dst.DstPolicy(fold="both")


@dataclass(frozen=True, slots=True)
class ClockChange:
    """The UTC instant `at` which a zone's offset changes, and the offsets on either side."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def wall(self) -> tuple[datetime, datetime]:
        """What clocks show when it comes, and what they show instead."""
        naive = self.at.replace(tzinfo=None)
        return naive + self.before, naive + self.after

    def __str__(self) -> str:
        old, new = self.wall
        form = "%H:%M" if old.date() == new.date() else "%Y-%m-%d %H:%M"
        way = "forward" if new > old else "back"
        return f"clocks go {way} from {old.strftime(form)} to {new.strftime(form)}"


@dataclass(frozen=True, slots=True)
class Fire:
    """One instant: `at` in UTC, `local` in the schedule's zone.

    `asked`: wall times within a gap that are read as this instant; `fold`: "first" or "second" where its wall
    time comes twice; `change`: what clocks do on its local day; `moved`: by how much its offset differs from
    that of the instant before; `added`: an extra date, which the rule itself does not name.
    """

    at: datetime
    local: datetime
    asked: tuple[datetime, ...] = ()
    fold: str | None = None
    change: ClockChange | None = None
    moved: timedelta = timedelta(0)
    added: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """Any of gap, fold, change_day, offset_changed, added."""
        given = {
            "gap": self.asked,
            "fold": self.fold,
            "change_day": self.change,
            "offset_changed": self.moved,
            "added": self.added,
        }
        return tuple(name for name, value in given.items() if value)

    @property
    def note(self) -> str:
        """The marks in words; empty for an instant like any other."""
        clock = _clock(self.local)
        parts = [f"{_clock(wall, self.local)} does not exist and is read as {clock}" for wall in self.asked]
        parts += [f"{clock} comes twice on this day; this is the {self.fold}"] if self.fold else []
        parts += [str(self.change)] if self.change else []
        moved = self.moved and not self.change
        parts += [f"the offset is {self.local.isoformat()[-6:]} from here on"] if moved else []
        return "; ".join([*parts, *(["an added date"] if self.added else [])])


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What the text names and does not fire: `wall` is its local time, `reason` is gap or excluded.

    `at` is its instant; None for a wall time that does not exist.
    """

    wall: datetime
    reason: str
    at: datetime | None = None

    @property
    def note(self) -> str:
        """The reason in words."""
        if self.reason == "gap":
            return f"{_clock(self.wall)} does not exist on this day and is skipped"
        return "an excluded date"


@dataclass(frozen=True, slots=True)
class ClockDay:
    """A day on which clocks change: the instants that this touches (else the day's first), and those left out."""

    change: ClockChange
    instants: tuple[Fire, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a schedule means. `ended`: nothing comes after `instants`."""

    words: str
    kind: str
    timezone: str
    warnings: tuple[str, ...]
    instants: tuple[Fire, ...]
    left_out: tuple[LeftOut, ...]
    clock_days: tuple[ClockDay, ...]
    ended: bool


def preview(
    schedule: Schedule, after: datetime, limit: int, *, given: Sequence[datetime] | None = None
) -> Preview:
    """What `schedule` does strictly after the aware `after`: at most `limit` instants, marked.

    `given` are the instants, ascending, where the caller knows them better (a task's snoozed ones are gone);
    without it they are those of `schedule.next`. The clock changes of the year after `after` come beside,
    whether or not an instant of the list falls on their days.
    """
    zone = schedule.compiled.frame.zone
    instants = schedule.next(after, limit) if given is None else list(given)
    timed = schedule.kind not in UNTIMED
    days = [_clock_day(schedule, change) for change in clock_changes(zone, after, after + YEAR) if timed]
    return Preview(
        describe(schedule),
        schedule.kind,
        zone.key,
        (*schedule.warnings, *over(schedule, after)),
        tuple(fires(schedule, instants)),
        tuple(left_out(schedule, after, _reach(after, instants, limit))) if timed else (),
        tuple(day for day in days if day.instants or day.left_out),
        len(instants) < limit,
    )


def over(schedule: Schedule, now: datetime) -> tuple[str, ...]:
    """The warning that the moment of a `once` lies before `now`, if it does."""
    if schedule.kind != "once" or schedule.next(now):
        return ()
    return (f"{shown(schedule.expr)} has passed by {now:%Y-%m-%dT%H:%M:%SZ}: it will not run",)


def fires(schedule: Schedule, instants: Sequence[datetime]) -> Iterator[Fire]:
    """The ascending UTC `instants` of a schedule, marked."""
    zone = schedule.compiled.frame.zone
    changes = {at: change for at, change in zip(instants, _changes_of(zone, instants), strict=True) if change}
    asked = {
        change: _asked(schedule, change) for change in set(changes.values()) if change.after > change.before
    }
    offsets = [dst.offset_at(at, zone) for at in instants]
    moves = [timedelta(0), *(new - old for old, new in pairwise(offsets))]
    extra = _added(schedule, instants)
    for at, moved in zip(instants, moves, strict=False):
        change = changes.get(at)
        walls = asked.get(change, []) if change else []
        yield Fire(
            at,
            at.astimezone(zone),
            tuple(wall for wall in walls if at in dst.resolve(wall, zone, schedule.compiled.frame.policy)),
            _fold(at, zone),
            change,
            moved,
            at in extra,
        )


def left_out(schedule: Schedule, after: datetime, until: datetime) -> Iterator[LeftOut]:
    """What fires neither at its own time nor at another, in (`after`, `until`]: at most MOST_LEFT_OUT, by wall time.

    Wall times in a gap, where the schedule skips those, and excluded dates.
    """
    zone = schedule.compiled.frame.zone
    found: list[LeftOut] = []
    if schedule.compiled.frame.policy.gap == "skip":
        for change in clock_changes(zone, after, until):
            found += [LeftOut(wall, "gap") for wall in _asked(schedule, change)]
            if len(found) >= MOST_LEFT_OUT:
                break
    gone = islice(_excluded(schedule, after, until), MOST_LEFT_OUT)
    found += [LeftOut(dst.local(at, zone), "excluded", at) for at in gone]
    yield from sorted(found, key=lambda each: each.wall)[:MOST_LEFT_OUT]


def clock_changes(zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[ClockChange]:
    """The changes of a zone's offset in (`after`, `until`], ascending."""
    low, end = (moment.astimezone(UTC).replace(microsecond=0) for moment in (after, until))
    before = dst.offset_at(low, zone)
    while low < end:
        high = min(low + _STRIDE, end)
        offset = dst.offset_at(high, zone)
        if offset != before:
            yield ClockChange(dst.transition_between(low, high, zone), before, offset)
        low, before = high, offset


def _clock_day(schedule: Schedule, change: ClockChange) -> ClockDay:
    """What the change touches lies as near to it as clocks move; of a dense schedule, the first of that."""
    zone = schedule.compiled.frame.zone
    first, end = _bounds(change.at, zone)
    reach = abs(change.after - change.before)
    near = _between(schedule, change.at - reach - _TICK, change.at + reach - _TICK)
    marked = fires(schedule, list(islice(near, MOST_NEAR_A_CHANGE)))
    touched = [fire for fire in marked if fire.asked or fire.fold]
    whole = (at for at in schedule.next(first - _TICK) if at < end)
    return ClockDay(
        change,
        tuple(touched[:MOST_OF_A_DAY] or fires(schedule, list(whole))),
        tuple(left_out(schedule, first - _TICK, end - _TICK)),
    )


def _excluded(schedule: Schedule, after: datetime, until: datetime) -> Iterator[datetime]:
    """The instants in (`after`, `until`] that excluded dates take away, in no order: of each day, only so many."""
    zone = schedule.compiled.frame.zone
    whole = replace(schedule, removed=frozenset(), removed_days=frozenset())
    single = (at for at in schedule.removed if after < at <= until)
    yield from (at for at in single if whole.next(at - _TICK) == [at])
    first, last = (dst.local(at.astimezone(UTC), zone).date() for at in (after, until))
    for day in sorted(day for day in schedule.removed_days if first <= day <= last):
        midnight = datetime.combine(day, time())
        begin = max(dst.earliest(midnight, zone) - _TICK, after)
        end = min(dst.earliest(midnight + _DAY, zone) - _TICK, until)
        there = islice(_between(whole, begin, end), MOST_LEFT_OUT)
        yield from (at for at in there if at not in schedule.removed)


def _bounds(at: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The first instant of the local day of `at`, and the first of the day after."""
    midnight = datetime.combine(dst.local(at, zone).date(), time())
    return dst.earliest(midnight, zone), dst.earliest(midnight + _DAY, zone)


def _changes_of(zone: ZoneInfo, instants: Sequence[datetime]) -> Iterator[ClockChange | None]:
    """For each ascending instant, what clocks do on its local day."""
    first, end, change = None, None, None
    for at in instants:
        if first is None or end is None or not first <= at < end:
            first, end = _bounds(at, zone)
            change = next(clock_changes(zone, first - _TICK, end - _TICK), None)
        yield change


def _fold(at: datetime, zone: ZoneInfo) -> str | None:
    both = dst.resolve(dst.local(at, zone), zone, _BOTH)
    return None if len(both) < 2 else "first" if both[0] == at else "second"


def _asked(schedule: Schedule, change: ClockChange) -> list[datetime]:
    """The wall times within a gap that the schedule would fire at if clocks showed them."""
    start, end = change.wall
    if start >= end:
        return []
    frame = schedule.compiled.frame
    shifted = restore_schedule(
        schedule.kind, schedule.expr, schedule.timezone, schedule.start, {**schedule.options, "gap": "shift"}
    )
    named = sorted(set(takewhile(lambda wall: wall < end, _named(schedule, start))))
    instants = ((wall, dst.resolve(wall, frame.zone, _SHIFTED)[0]) for wall in named if wall >= start)
    return [wall for wall, at in instants if shifted.next(at - _TICK) == [at]]


def _named(schedule: Schedule, seek: datetime) -> Iterator[datetime]:
    """The wall times from `seek` on that a schedule's text and dates name, in no order between its parts."""
    frame = schedule.compiled.frame
    parts: list[Iterator[datetime]] = []
    if schedule.kind == "cron" and not (line := cron.parse_cron(schedule.expr)).every_hour:
        parts.append(cron.walls(line, seek))
    elif schedule.kind == "rrule":
        rules = [rule for rule in parse_content(schedule.expr).rules if not rule.sub_daily]
        parts += [rruler.walls(rruler.prepare(rule, frame.wall), seek) for rule in rules]
    return merge(*parts, sorted(_dates(schedule)))


def _dates(schedule: Schedule) -> Iterator[datetime]:
    """The wall times of added dates; those with an offset or a zone of their own have none."""
    compiled = schedule.compiled
    own = [each.moment for each in compiled.rdates if each.zone in (None, compiled.frame.zone)]
    for moment in (*own, *map(moments.parse_moment, schedule.options.get("rdates") or ())):
        if not isinstance(moment, datetime):
            yield from (datetime.combine(moment, at) for at in compiled.times)
        elif moment.tzinfo is None:
            yield moment


def _added(schedule: Schedule, instants: Iterable[datetime]) -> set[datetime]:
    """Those of `instants` that come from added dates alone."""
    if not schedule.compiled.sources:
        return set()
    extra = set(schedule.added) & set(instants)
    plain = replace(schedule, added=())
    return {at for at in extra if plain.next(at - _TICK) != [at]}


def _between(schedule: Schedule, after: datetime, until: datetime) -> Iterator[datetime]:
    """The instants in (`after`, `until`], a few at a time."""
    while batch := schedule.next(after, MOST_NEAR_A_CHANGE):
        for at in batch:
            if at > until:
                return
            yield at
        after = batch[-1]


def _reach(after: datetime, instants: Sequence[datetime], limit: int) -> datetime:
    """How far what is left out is looked for: to the last instant, or a year on where the schedule ends."""
    last = instants[-1] if instants else after
    return last if len(instants) >= limit else max(last, after + YEAR)


def _clock(wall: datetime, beside: datetime | None = None) -> str:
    """What a clock shows; with the date, if that of `beside` is another."""
    shown = wall.strftime("%H:%M:%S" if wall.second else "%H:%M")
    return shown if beside is None or beside.date() == wall.date() else f"{wall.date()} {shown}"
