"""A schedule: parsed once, asked often.

`Schedule.next` joins the sources of its kind with the added dates, takes the excluded ones away and keeps the
window between start and end. It is pure: tick, preview and backfill ask the same object the same question and
get the same answer on every host, because zone data comes with the package.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from hashlib import blake2b
from heapq import merge
from itertools import islice
from typing import Any

from engine.durations import parse_duration
from engine.schedule import dst, kinds, moments
from engine.schedule.content import MAX_DATES, ZonedMoment
from engine.schedule.kinds import Compiled, Frame, Source
from engine.schedule.refusals import did_you_mean, refusal, shown
from engine.schedule.zones import load_zone

COMPILERS = {
    "rrule": kinds.compile_rrule,
    "cron": kinds.compile_cron,
    "every": kinds.compile_every,
    "once": kinds.compile_once,
    "event": kinds.compile_event,
    "condition": kinds.compile_every,
    "manual": kinds.compile_manual,
}
UNTIMED = ("event", "manual")
OPTIONS = ("gap", "fold", "exdates", "rdates", "end", "jitter")
MAX_LIMIT = 100_000
MAX_EXCLUDED_STEPS = 5_000
"""Occurrences excluded in a row after which the rest is taken to be excluded as well; so too 400 years."""

_CHOICES = {"gap": ("shift", "next_valid", "skip"), "fold": ("first", "second", "both")}
_TICK = timedelta(microseconds=1)
_EARLIEST = datetime(moments.FIRST_YEAR, 1, 1, tzinfo=UTC)
_CYCLE = timedelta(days=146_097)
_LATEST = datetime(moments.LAST_YEAR, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a task is due. Made by `parse_schedule`; `start` and `options` are as they were given.

    `warnings` says what is legal but often not meant. `event` and `manual` schedules have no instants.
    """

    kind: str
    expr: str
    timezone: str
    start: datetime | None
    options: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    compiled: Compiled = field(kw_only=True, repr=False, compare=False)
    added: tuple[datetime, ...] = field(default=(), kw_only=True, repr=False, compare=False)
    removed: frozenset[datetime] = field(default=frozenset(), kw_only=True, repr=False, compare=False)
    removed_days: frozenset[date] = field(default=frozenset(), kw_only=True, repr=False, compare=False)
    end: datetime | None = field(default=None, kw_only=True, repr=False, compare=False)

    def next(self, after: datetime | None, limit: int = 1) -> list[datetime]:
        """At most `limit` instants strictly after the aware `after`: UTC, ascending, each once.

        None asks from the start, inclusive. The list is shorter only where the schedule ends.
        """
        if not 0 <= limit <= MAX_LIMIT:
            raise refusal("limit", f"limit={limit} must be from 0 to {MAX_LIMIT}", "/limit")
        return list(islice(self.walk(after), limit))

    def walk(self, after: datetime | None) -> Iterator[datetime]:
        """What `next` lists, one by one, for whoever knows only on the way how far to go."""
        if after is not None and after.tzinfo is None:
            raise refusal(
                "after", f"after={after.isoformat()} has no offset; an aware instant is needed", "/after"
            )
        seek = _EARLIEST if after is None else min(max(after.astimezone(UTC) + _TICK, _EARLIEST), _LATEST)
        return self._from(max(seek, self.compiled.since or seek))

    @property
    def period(self) -> timedelta | None:
        """The time from each instant to the next, where it is the same for all of them."""
        if self.kind not in ("every", "condition") or self.added or self.removed or self.removed_days:
            return None
        return parse_duration(self.expr)

    def _from(self, seek: datetime) -> Iterator[datetime]:
        """What fires from `seek` on."""
        cursors = [_Cursor(source, seek) for source in self.compiled.excluded]
        last, barren, fired = None, 0, seek
        for instant in self._listed(seek):
            if (self.end and instant > self.end) or instant > _LATEST:
                return
            if barren > MAX_EXCLUDED_STEPS or (barren and instant - fired > _CYCLE):
                return
            if instant == last:
                continue
            last = instant
            if self._is_removed(instant) or any(cursor.holds(instant) for cursor in cursors):
                barren += 1
            else:
                barren, fired = 0, instant
                yield instant

    def _listed(self, seek: datetime) -> Iterator[datetime]:
        streams = [source(seek) for source in self.compiled.sources]
        if self.added:
            streams.append(iter(self.added[bisect_left(self.added, seek) :]))
        return streams[0] if len(streams) == 1 else merge(*streams)

    def _is_removed(self, instant: datetime) -> bool:
        if instant in self.removed:
            return True
        days = self.removed_days
        return bool(days) and dst.local(instant, self.compiled.frame.zone).date() in days


class _Cursor:
    """Where an excluded source stands; it follows ascending questions, and seeks when left far behind."""

    __slots__ = ("_head", "_source", "_stream")

    def __init__(self, source: Source, seek: datetime) -> None:
        self._source = source
        self._stream = source(seek)
        self._head = next(self._stream, None)

    def holds(self, instant: datetime) -> bool:
        """Whether the source has `instant`, which is never before the last one asked for."""
        for _ in range(8):
            if self._head is None or self._head >= instant:
                return self._head == instant
            self._head = next(self._stream, None)
        self._stream = self._source(instant)
        self._head = next(self._stream, None)
        return self._head == instant


def parse_schedule(
    kind: str, expr: str, tz: str, start: datetime | None, options: Mapping[str, Any] | None = None
) -> Schedule:
    """The schedule that a definition states, fully checked: ValidationFailed if it is wrong or never fires.

    `kind` is rrule, cron, every, once, event, condition or manual; `expr` its text; `tz` an IANA name.
    `start` (naive: wall time in `tz`) is RRULE's DTSTART, the anchor of `every` and `condition`, and the
    earliest instant of all kinds but `once`; without it 1970-01-01T00:00 in `tz` is taken. Options: `gap`
    (shift, next_valid, skip), `fold` (first, second, both), `exdates` and `rdates` (lists of dates or
    date-times, a date being a whole local day), `end` (last instant allowed). `jitter` is allowed and not
    applied here.
    """
    schedule = restore_schedule(kind, expr, tz, start, options)
    fires = all(check() for check in schedule.compiled.feasible) and schedule.next(None)
    if kind not in UNTIMED and not fires:
        raise refusal(
            "never_fires", f"the schedule never fires: {shown(expr)}, or a rule in it, has no occurrence left"
        )
    return schedule


def restore_schedule(
    kind: str, expr: str, tz: str, start: datetime | None, options: Mapping[str, Any] | None = None
) -> Schedule:
    """The schedule of a stored row: like `parse_schedule`, without the search for a first occurrence."""
    if kind not in COMPILERS:
        hint = did_you_mean(str(kind), COMPILERS)
        raise refusal(
            "kind", f"{shown(kind)} is not a kind of schedule ({', '.join(COMPILERS)}).{hint}", "/kind"
        )
    if not isinstance(expr, str):
        raise refusal("expr", f"the expression must be text, not {shown(expr)}", "/expr")
    options = dict(options or {})
    if start is not None:
        moments.in_years(start, "/start")
    frame = Frame(load_zone(tz), _policy(options), start)
    compiled = COMPILERS[kind](expr, frame)
    rdates, exdates = (_option_dates(options, name) for name in ("rdates", "exdates"))
    removed, days = _taken((*compiled.exdates, *exdates), compiled.frame)
    return Schedule(
        kind,
        expr,
        tz,
        start,
        options,
        compiled.warnings,
        compiled=compiled,
        added=tuple(sorted(set(_given((*compiled.rdates, *rdates), compiled)))),
        removed=removed,
        removed_days=days,
        end=_end(options, compiled.frame),
    )


def occurrences(
    kind: str, expr: str, tz: str, start: datetime | None, after: datetime | None, limit: int, **options: Any
) -> list[datetime]:
    """When a schedule is due: at most `limit` aware UTC instants, ascending, strictly after `after`.

    `expr` is a bare rule or iCalendar content lines (RRULE, RDATE, EXDATE, EXRULE, DTSTART), a cron line or
    macro, a duration or a date-time, as `kind` says; `start` is DTSTART (naive: wall time in `tz`); `after`
    is aware, None meaning from the start, inclusive. Options and errors are those of `parse_schedule`.
    """
    try:
        key = tuple(sorted((name, _hashable(value)) for name, value in options.items()))
        schedule = _parsed(kind, expr, tz, start, key)
    except TypeError:  # an option, or an argument, that cannot be a cache key is judged by the parser
        schedule = parse_schedule(kind, expr, tz, start, options)
    return schedule.next(after, limit)


def jitter_offset(key: str, scheduled_for: datetime, jitter: timedelta) -> timedelta:
    """How much later than `scheduled_for` the occurrence of `key` may be leased: in [0, `jitter`).

    Drawn from a hash, so that every scheduler computes the same and a repeated tick changes nothing.
    """
    text = f"{key}@{scheduled_for.astimezone(UTC).isoformat()}"
    digest = blake2b(text.encode(), digest_size=8).digest()
    return jitter * (int.from_bytes(digest) / 2**64)


@lru_cache(maxsize=1024)
def _parsed(
    kind: str, expr: str, tz: str, start: datetime | None, options: tuple[tuple[str, Any], ...]
) -> Schedule:
    return parse_schedule(kind, expr, tz, start, dict(options))


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | set) else value


def _policy(options: Mapping[str, Any]) -> dst.DstPolicy:
    for name in options:
        if name not in OPTIONS:
            hint = did_you_mean(str(name), OPTIONS)
            raise refusal("option", f"{shown(name)} is not an option of a schedule.{hint}", f"/{name}")
    for name, allowed in _CHOICES.items():
        if options.get(name, allowed[0]) not in allowed:
            detail = f"{name}={shown(options[name])} must be one of {', '.join(allowed)}"
            raise refusal("option", detail, f"/{name}")
    return dst.DstPolicy(options.get("gap", "shift"), options.get("fold", "first"))


def _option_dates(options: Mapping[str, Any], name: str) -> list[ZonedMoment]:
    values = options.get(name) or ()
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise refusal(
            "option", f"{name} must be a list of dates or date-times, not {shown(values)}", f"/{name}"
        )
    found = [
        ZonedMoment(moments.parse_moment(value, f"/{name}/{place}")) for place, value in enumerate(values)
    ]
    if len(found) > MAX_DATES:
        raise refusal("option", f"{name} holds more than {MAX_DATES} dates", f"/{name}")
    return found


def _end(options: Mapping[str, Any], frame: Frame) -> datetime | None:
    if options.get("end") is None:
        return None
    end = moments.parse_moment(options["end"], "/end")
    if not isinstance(end, datetime):
        end = datetime.combine(end, time.max)
    return end.astimezone(UTC) if end.tzinfo else dst.latest(end, frame.zone)


def _given(rdates: Iterable[ZonedMoment], compiled: Compiled) -> Iterator[datetime]:
    """The instants of added moments; a date is taken at the schedule's own times of day."""
    frame = compiled.frame
    for added in rdates:
        moment, zone = added.moment, added.zone or frame.zone
        if isinstance(moment, datetime):
            yield from moments.instants_of(moment, zone, frame.policy)
        else:
            for at in compiled.times:
                yield from dst.resolve(datetime.combine(moment, at), zone, frame.policy)


def _taken(exdates: Iterable[ZonedMoment], frame: Frame) -> tuple[frozenset[datetime], frozenset[date]]:
    """Excluded moments as instants and as whole local days."""
    instants: set[datetime] = set()
    days: set[date] = set()
    for removed in exdates:
        if isinstance(removed.moment, datetime):
            instants.update(moments.instants_of(removed.moment, removed.zone or frame.zone, frame.policy))
        else:
            days.add(removed.moment)
    return frozenset(instants), frozenset(days)
