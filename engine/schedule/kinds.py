"""The kinds of schedule, each compiled once into sources of instants.

A source finds the ascending UTC instants at or after any instant, without walking up to it. What the kinds
share (added and excluded dates, the window, the limit) is in `schedules.py`; what they share about clocks is
in `dst.py`. Here each kind's text becomes its sources, and nothing is computed yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from functools import lru_cache, partial
from itertools import takewhile
from zoneinfo import ZoneInfo

from engine.durations import format_duration, parse_duration
from engine.schedule import cron, dst, elapsed, moments, rruler, subdaily
from engine.schedule.content import Content, ZonedMoment, parse_content
from engine.schedule.excluding import Source
from engine.schedule.refusals import refusal, shown
from engine.schedule.rule import Rule
from engine.schedule.stretches import seconds_of
from engine.schedule.subdaily import ElapsedRule
from engine.schedule.zones import load_zone

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 a wall time, read in the schedule's zone
SHORTEST_INTERVAL = timedelta(seconds=1)
_TOPIC = re.compile(r"(?:[\w-]+|\*)(?:\.(?:[\w-]+|\*))*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Frame:
    """What a schedule's text is read in. `start` is naive wall time or aware; None stands for the epoch."""

    zone: ZoneInfo
    policy: dst.DstPolicy
    start: datetime | None

    @property
    def wall(self) -> datetime:
        """The start as wall time in the zone."""
        return moments.wall_of(self.start or EPOCH, self.zone)

    @property
    def instant(self) -> datetime:
        """The start as an instant; a wall time that the policy skips counts from the end of its gap."""
        found = moments.instants_of(self.start or EPOCH, self.zone, self.policy)
        return found[0] if found else dst.earliest(self.wall, self.zone)


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a kind makes of its text.

    `since` is the instant before which nothing fires; `times` are the times of day that an added date without
    a time gets. `feasible` holds what must be true for the sources ever to fire, asked once, at definition:
    a source that never fires may search for long.
    """

    frame: Frame
    since: datetime | None = None
    sources: tuple[Source, ...] = ()
    excluded: tuple[Source, ...] = ()
    rdates: tuple[ZonedMoment, ...] = ()
    exdates: tuple[ZonedMoment, ...] = ()
    times: Sequence[time] = ()
    feasible: tuple[Callable[[], bool], ...] = ()
    warnings: tuple[str, ...] = ()


def compile_rrule(expr: str, frame: Frame) -> Compiled:
    """An RRULE or iCalendar text. A DTSTART in the text goes before the frame's start."""
    content = _content(expr)
    frame = _framed(content, frame)
    wall, instant = frame.wall, frame.instant
    rdates = list(content.rdates)
    if content.dtstart and not content.rules:
        # RFC 5545 section 3.8.5.2: with dates alone, DTSTART is the first of them.
        rdates.append(ZonedMoment(wall))
    # A rule that an equal EXRULE takes away entirely is not worth stepping through.
    gone = {_spelled_out(rule, wall) for rule in content.exrules}
    rules = [rule for rule in content.rules if not gone or _spelled_out(rule, wall) not in gone]
    return Compiled(
        frame,
        since=instant,
        sources=tuple(rule_source(rule, frame) for rule in rules),
        feasible=tuple(partial(_fires, rule, frame) for rule in (*content.rules, *content.exrules)),
        excluded=tuple(rule_source(rule, frame) for rule in content.exrules),
        rdates=tuple(rdates),
        exdates=tuple(content.exdates),
        times=_times(content.rules, frame),
    )


def compile_cron(expr: str, frame: Frame) -> Compiled:
    """A cron line. One that fires in every hour is sub-daily: folds fire twice, no real hour lacks."""
    line = _cron_line(expr)
    if line.every_hour:
        gap: dst.Gap = "skip" if frame.policy.gap == "skip" else "shift"
        frame = replace(frame, policy=dst.DstPolicy(gap, "both"))
    source = Source(partial(_wall_instants, partial(cron.walls, line), frame, None))
    warnings = (cron.OR_WARNING,) if line.either else ()
    return Compiled(frame, frame.instant, (source,), times=line.times, warnings=warnings)


def compile_every(expr: str, frame: Frame) -> Compiled:
    """An interval of elapsed time, anchored at the start."""
    step = parse_duration(expr)
    if step < SHORTEST_INTERVAL:
        least = format_duration(SHORTEST_INTERVAL)
        raise refusal("every", f"an interval of {shown(expr)} is too short; the least is {least}")
    origin = frame.instant
    return Compiled(
        frame, origin, (Source(partial(elapsed.every, origin, step)),), times=(frame.wall.time(),)
    )


def compile_once(expr: str, frame: Frame) -> Compiled:
    """One moment, local or with an offset. It fires even if it lies before the start, which is when it was
    stored: a moment of "now" must not be lost to the clock's next tick."""
    moment = moments.parse_moment(expr)
    if not isinstance(moment, datetime):
        raise refusal("once", f"{shown(expr)} has no time of day: write it like {expr.strip()}T09:00:00")
    return Compiled(frame, rdates=(ZonedMoment(moment),))


def compile_event(expr: str, frame: Frame) -> Compiled:
    """A topic pattern: dotted words, `*` for any one of them. No instants."""
    if len(expr) > 200 or not _TOPIC.fullmatch(expr):
        raise refusal("event", f'{shown(expr)} is not a topic pattern such as "email.received" or "email.*"')
    return Compiled(frame)


def compile_manual(expr: str, frame: Frame) -> Compiled:
    """Run on request alone. No instants, and nothing to say."""
    if expr.strip() not in ("", "manual"):
        raise refusal("manual", f"a manual schedule has no expression, but there is {shown(expr)}")
    return Compiled(frame)


def default_start(kind: str, expr: str, tz: str, now: datetime) -> datetime:
    """Where a schedule without a start is anchored when it is stored at `now`: naive wall time in the zone `tz`.

    A rule that names hours means full ones, one that names minutes full minutes: BYHOUR=8 is 08:00:00, not the
    minute at which it was stored. The next full one is taken, so that COUNT counts nothing that has passed; in the
    last hour of a day the last full one, because what else the rule leaves out is meant of today.
    """
    at = now.astimezone(load_zone(tz)).replace(tzinfo=None, microsecond=0)
    rules = _content(expr).rules if kind == "rrule" else []
    unit = min((_named_unit(rule) for rule in rules), default=1)
    rest = timedelta(seconds=(60 * at.minute + at.second) % unit)
    if not rest:
        return at
    following = at - rest + timedelta(seconds=unit)
    return following if following.date() == at.date() else at - rest


def _named_unit(rule: Rule) -> int:
    """The finest unit of time of day, in seconds, that the rule names and leaves the rest of open."""
    if rule.bysecond or rule.freq in ("MINUTELY", "SECONDLY"):
        return 1
    if rule.byminute:
        return 60
    return 3600 if rule.byhour and rule.freq != "HOURLY" else 1


def rule_source(rule: Rule, frame: Frame) -> Source:
    """The instants of one RRULE or EXRULE in its frame."""
    until = _until(rule, frame)
    if rule.sub_daily:
        prepared = elapsed.prepare(rule, frame.wall, frame.instant, frame.zone)
        seek = partial(_elapsed_instants, prepared, until)
        return Source(seek, rule, prepared, until, partial(_elapsed_holds, prepared, until))
    calendar = rruler.prepare(rule, frame.wall)
    walls = partial(_walls_until, rule.until, calendar)
    # A local UNTIL is held against wall times alone: one that a gap shifts may come after the instant of its UNTIL.
    last = until if isinstance(rule.until, datetime) and rule.until.tzinfo else None
    return Source(
        partial(_wall_instants, walls, frame, last),
        _spelled_out(rule, frame.wall),
        None,
        until,
        partial(_wall_holds, calendar, frame.zone, until),
    )


def _fires(rule: Rule, frame: Frame) -> bool:
    if rule.sub_daily:
        return elapsed.fires(elapsed.prepare(rule, frame.wall, frame.instant, frame.zone))
    return rruler.fires(rruler.prepare(rule, frame.wall))


def _spelled_out(rule: Rule, wall: datetime) -> Rule:
    """A calendar rule with the times of day that it takes from DTSTART; a sub-daily one as it is."""
    if rule.sub_daily or (rule.byhour and rule.byminute and rule.bysecond):
        return rule
    return replace(
        rule,
        byhour=rule.byhour or (wall.hour,),
        byminute=rule.byminute or (wall.minute,),
        bysecond=rule.bysecond or (wall.second,),
    )


@lru_cache(maxsize=4096)
def _content(expr: str) -> Content:
    """Tasks by the thousand say the same; what is answered is shared, and only read."""
    return parse_content(expr)


@lru_cache(maxsize=4096)
def _cron_line(expr: str) -> cron.CronLine:
    return cron.parse_cron(expr)


def _framed(content: Content, frame: Frame) -> Frame:
    """The frame with the text's own DTSTART and zone, and whole seconds, which is all that rules know."""
    start = frame.start
    if content.dtstart is not None:
        moment, zone = content.dtstart.moment, content.dtstart.zone
        start = moment if isinstance(moment, datetime) else datetime.combine(moment, time())
        frame = replace(frame, zone=zone or frame.zone)
    whole = start and start.replace(microsecond=0)
    return frame if whole is frame.start or whole == frame.start else Frame(frame.zone, frame.policy, whole)


def _times(rules: list[Rule], frame: Frame) -> Sequence[time]:
    daily = [rule for rule in rules if not rule.sub_daily]
    return rruler.prepare(daily[0], frame.wall).times if daily else (frame.wall.time(),)


def _until(rule: Rule, frame: Frame) -> datetime | None:
    """UNTIL as the last instant allowed; a date means the whole local day, a naive time is local."""
    until = rule.until
    if until is None:
        return None
    if not isinstance(until, datetime):
        until = datetime.combine(until, time.max)
    return until if until.tzinfo else dst.latest(until, frame.zone)


def _walls_until(
    until: date | datetime | None, calendar: rruler.CalendarRule, seek: datetime
) -> Iterator[datetime]:
    """The rule's wall times, to a local UNTIL: 01:30 is after 01:15 although 01:15 may come once more."""
    found = rruler.walls(calendar, seek)
    if until is None or (isinstance(until, datetime) and until.tzinfo):
        return found
    last = until if isinstance(until, datetime) else datetime.combine(until, time.max)
    return takewhile(last.__ge__, found)


def _wall_instants(
    walls: Callable[[datetime], Iterator[datetime]], frame: Frame, until: datetime | None, seek: datetime
) -> Iterator[datetime]:
    found = walls(dst.seek_wall(seek, frame.zone))
    for instant in dst.in_order(found, frame.zone, frame.policy):
        if until and instant > until:
            return
        if instant >= seek:
            yield instant


def _elapsed_instants(prepared: ElapsedRule, until: datetime | None, seek: datetime) -> Iterator[datetime]:
    for instant in elapsed.instants(prepared, seek):
        if until and instant > until:
            return
        yield instant


def _wall_holds(
    calendar: rruler.CalendarRule, zone: ZoneInfo, until: datetime | None, instant: datetime
) -> bool | None:
    wall = dst.calm_wall(instant, zone)
    if wall is None:
        return None
    return (until is None or instant <= until) and rruler.holds(calendar, wall)


def _elapsed_holds(prepared: ElapsedRule, until: datetime | None, instant: datetime) -> bool | None:
    if prepared.rule.count is not None:
        return None
    if instant.microsecond or (until is not None and instant > until):
        return False
    return subdaily.holds(prepared, seconds_of(instant))
