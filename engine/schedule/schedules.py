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
from itertools import groupby, islice, takewhile
from typing import Any

from engine.durations import parse_duration
from engine.schedule import dst, kinds, moments
from engine.schedule.content import MAX_DATES, ZonedMoment
from engine.schedule.excluding import Source, Taken, remaining
from engine.schedule.kinds import Compiled, Frame
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

_CHOICES = {"gap": ("shift", "next_valid", "skip"), "fold": ("first", "second", "both")}
_BY_DEFAULT = dst.DstPolicy()
_TICK = timedelta(microseconds=1)
_EARLIEST = datetime(moments.FIRST_YEAR, 1, 1, tzinfo=UTC)
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
        if not isinstance(limit, int) or not 0 <= limit <= MAX_LIMIT:
            detail = f"limit={shown(limit)} must be a whole number from 0 to {MAX_LIMIT}"
            raise refusal("limit", detail, "/limit")
        return list(islice(self.walk(after), limit))

    def walk(self, after: datetime | None) -> Iterator[datetime]:
        """What `next` lists, one by one, for whoever knows only on the way how far to go."""
        if after is not None and (not isinstance(after, datetime) or after.tzinfo is None):
            raise refusal("after", f"after={shown(after)} is not an aware datetime, with an offset", "/after")
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
        end = min(self.end, _LATEST) if self.end else _LATEST
        streams = self._streams(seek, end)
        if len(streams) == 1:
            return takewhile(end.__ge__, streams[0])
        joined = takewhile(end.__ge__, merge(*streams))
        return (instant for instant, _ in groupby(joined))

    def _streams(self, seek: datetime, end: datetime) -> list[Iterator[datetime]]:
        compiled = self.compiled
        taken = Taken(compiled.frame.zone, compiled.excluded, self.removed, self.removed_days)
        sources = [*compiled.sources, *([Source(self._added_from)] if self.added else ())]
        if not taken:
            return [source.seek(seek) for source in sources]
        return [remaining(source, taken, seek, end) for source in sources]

    def _added_from(self, seek: datetime) -> Iterator[datetime]:
        return iter(self.added[bisect_left(self.added, seek) :])


def parse_schedule(
    kind: str, expr: str, tz: str, start: datetime | None, options: Mapping[str, Any] | None = None
) -> Schedule:
    """The schedule that a definition states, fully checked: ValidationFailed if it is wrong or never fires.

    `kind` is rrule, cron, every, once, event, condition or manual; `expr` its text; `tz` an IANA name.
    `start` (naive: wall time in `tz`) is RRULE's DTSTART, the anchor of `every` and `condition`, and the
    earliest instant of all kinds but `once`; without it 1970-01-01T00:00 in `tz` is taken. Options: `gap`
    (shift, next_valid, skip), `fold` (first, second, both), or both in one as `dst` {gap, fold}, the way
    definitions write them; `exdates` and `rdates` (lists of dates or date-times, a date being a whole local
    day), `end` (last instant allowed). `jitter` is allowed and not applied here.
    """
    schedule = restore_schedule(kind, expr, tz, start, options)
    fires = all(check() for check in schedule.compiled.feasible) and schedule.next(None)
    if kind not in UNTIMED and not fires:
        raise refusal("never_fires", _never(schedule))
    return schedule


def _never(schedule: Schedule) -> str:
    """Why a schedule is refused that names nothing: between which bounds that is so."""
    start, end, gone = schedule.start, schedule.options.get("end"), schedule.options.get("exdates")
    since = "1970-01-01T00:00:00 (there is no start)" if start is None else start.isoformat()
    until = "on" if end is None else f"to {end if isinstance(end, str) else end.isoformat()}"
    left = ", once exdates are taken away" if gone else ""
    return (
        f"the schedule never fires: {shown(schedule.expr)}, or a rule in it, names no instant "
        f"from {since} {until}{left}"
    )


def restore_schedule(
    kind: str, expr: str, tz: str, start: datetime | None, options: Mapping[str, Any] | None = None
) -> Schedule:
    """The schedule of a stored row: like `parse_schedule`, without the search for a first occurrence."""
    key = _key(options, kind, expr, tz, start)
    if key is None:
        return _restored(kind, expr, tz, start, options)
    return _stored(kind, expr, tz, start, key)


def _restored(
    kind: str, expr: str, tz: str, start: datetime | None, options: Mapping[str, Any] | None
) -> Schedule:
    if kind not in COMPILERS:
        hint = did_you_mean(str(kind), COMPILERS)
        raise refusal(
            "kind", f"{shown(kind)} is not a kind of schedule ({', '.join(COMPILERS)}).{hint}", "/kind"
        )
    if not isinstance(expr, str):
        raise refusal("expr", f"the expression must be text, not {shown(expr)}", "/expr")
    options = _spread(options) if options else {}
    if start is not None:
        moments.checked_start(start)
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
    key = _key(options, kind, expr, tz, start)
    if key is None:
        return parse_schedule(kind, expr, tz, start, options).next(after, limit)
    return _parsed(kind, expr, tz, start, key).next(after, limit)


def jitter_offset(key: str, scheduled_for: datetime, jitter: timedelta) -> timedelta:
    """How much later than `scheduled_for` the occurrence of `key` may be leased: in [0, `jitter`).

    Drawn from a hash, so that every scheduler computes the same and a repeated tick changes nothing.
    """
    text = f"{key}@{scheduled_for.astimezone(UTC).isoformat()}"
    digest = blake2b(text.encode(), digest_size=8).digest()
    return jitter * (int.from_bytes(digest) / 2**64)


Key = tuple[tuple[str, Any], ...]


@lru_cache(maxsize=1024)
def _parsed(kind: str, expr: str, tz: str, start: datetime | None, options: Key) -> Schedule:
    return parse_schedule(kind, expr, tz, start, dict(options))


@lru_cache(maxsize=1024)
def _stored(kind: str, expr: str, tz: str, start: datetime | None, options: Key) -> Schedule:
    return _restored(kind, expr, tz, start, dict(options))


def _key(options: Mapping[str, Any] | None, *beside: object) -> Key | None:
    """Options as part of a cache key; None if they, or what is beside them, cannot be in one: the parser judges."""
    try:
        key = tuple(sorted((name, _hashable(value)) for name, value in (options or {}).items()))
        hash((key, beside))
    except TypeError:
        return None
    return key


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | set) else value


def _spread(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the members of `dst` beside the others."""
    flat = dict(options)
    policy = flat.pop("dst", None) or {}
    if not isinstance(policy, Mapping) or not set(policy) <= set(_CHOICES):
        raise refusal("option", f"dst={shown(policy)} must be a mapping of gap and fold", "/dst")
    return flat | dict(policy)


def _policy(options: Mapping[str, Any]) -> dst.DstPolicy:
    if not options:
        return _BY_DEFAULT
    for name in options:
        if name not in OPTIONS:
            hint = did_you_mean(str(name), OPTIONS)
            raise refusal("option", f"{shown(name)} is not an option of a schedule.{hint}", f"/{name}")
    for name, allowed in _CHOICES.items():
        if options.get(name, allowed[0]) not in allowed:
            detail = f"{name}={shown(options[name])} must be one of {', '.join(allowed)}"
            raise refusal("option", detail, f"/{name}")
    if options.get("jitter") is not None:
        parse_duration(options["jitter"])
    return dst.DstPolicy(options.get("gap", "shift"), options.get("fold", "first"))


def _option_dates(options: Mapping[str, Any], name: str) -> list[ZonedMoment]:
    values = options.get(name) or ()
    if values == ():
        return []
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
