"""What a tick writes for one task: which instants run, which are only accounted for, and what comes next.

Pure: it takes the instant and answers with a plan. Every instant between the task's `next_run` and the
horizon is in the plan exactly once, as a run or inside a range with its reason (promise (a) of DESIGN).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from engine.durations import parse_duration
from engine.schedule import Schedule

TICK = timedelta(microseconds=1)
"""The finest step of time there is here: the unit of `datetime` and of PostgreSQL."""
DENSEST = 1000
"""Instants of one task that one tick makes into runs, at most; the next tick goes on from there."""
COUNTED = 10_000
"""Missed instants that are walked and counted; a longer range is written without a count."""


DEFAULT_WINDOW = timedelta(days=1)
DEFAULT_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Catchup:
    """What happens to instants that are past when a scheduler comes to them, or that no worker starts.

    `policy` none: they are missed; last: the newest one runs; all: up to `limit` of them run. Nothing older
    than `window` ever runs. `grace` is how late an instant may be and still count as on time.
    """

    policy: str = "last"
    window: timedelta = DEFAULT_WINDOW
    limit: int = DEFAULT_LIMIT
    grace: timedelta = timedelta(seconds=30)

    @classmethod
    def of(cls, options: Mapping[str, Any], grace: timedelta) -> Catchup:
        """From the `catchup` member of a task's schedule options."""
        given = options.get("catchup") or {}
        window = parse_duration(given["window"]) if "window" in given else DEFAULT_WINDOW
        return cls(given.get("policy", "last"), window, given.get("max", DEFAULT_LIMIT), grace)

    def expiry(self, instant: datetime, following: datetime | None) -> datetime:
        """When an unstarted run of `instant` becomes missed. Under `last` the following instant replaces it."""
        if self.policy == "none":
            return instant + self.grace
        if self.policy == "all" or following is None:
            return instant + self.window
        return min(instant + self.window, max(following, instant + self.grace))


@dataclass(frozen=True, slots=True)
class Range:
    """Instants first..last that did not run; `count` is None when there were too many to walk."""

    first: datetime
    last: datetime
    count: int | None
    disposition: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`runs`: (scheduled_for, expires_at); `ranges`: for the ledger only; `next_run`: None when it is over."""

    runs: tuple[tuple[datetime, datetime], ...]
    ranges: tuple[Range, ...]
    next_run: datetime | None


def first_run(
    schedule: Schedule, now: datetime, grace: timedelta, begun: Sequence[datetime] = ()
) -> datetime | None:
    """The first instant of a task defined (or resumed, or edited) at `now`, those that have `begun` left out.

    A `once` a moment ago is still meant; instants of recurring schedules before `now` are not.
    """
    after = now - grace if schedule.kind == "once" else now
    return next((one for one in schedule.next(after, len(begun) + 1) if one not in begun), None)


def plan(schedule: Schedule, catchup: Catchup, next_run: datetime, now: datetime, horizon: timedelta) -> Plan:
    """Account for every instant from `next_run` to `now + horizon`, or for the oldest of very many of them."""
    older, start = _too_old(catchup, schedule, next_run, now)
    walked = _walk(schedule, start, now - catchup.grace) if start is not None else []
    if len(walked) > COUNTED:  # still behind: the next tick goes on where this one ends
        return Plan((), (*older, _missed(walked[:COUNTED])), walked[COUNTED])
    kept = _kept(walked, catchup, now)
    dropped = walked[: len(walked) - len(kept)]
    after = walked[-1] if walked else None
    due = _due(schedule, start if after is None else None, after, now + horizon)
    instants = [*kept, *due]
    following = next(iter(schedule.next((instants or walked)[-1])), None) if instants or walked else start
    ends = [*instants[1:], following]
    runs = tuple((one, catchup.expiry(one, end)) for one, end in zip(instants, ends, strict=False))
    return Plan(runs, (*older, _missed(dropped)) if dropped else older, following)


def span(
    schedule: Schedule, first: datetime | None, until: datetime, disposition: str, reason: str
) -> Range | None:
    """The range of instants from `first` (inclusive) to before `until`; None when there is none."""
    if first is None or first >= until:
        return None
    walked = _walk(schedule, first, until)
    if len(walked) > COUNTED:
        return Range(first, until - TICK, None, disposition, reason)
    return Range(first, walked[-1], len(walked), disposition, reason)


def gaps(
    schedule: Schedule,
    since: datetime,
    until: datetime,
    begun: Sequence[datetime],
    disposition: str,
    reason: str,
) -> list[Range]:
    """The ranges of instants after `since` up to `until` between those that have `begun` (ascending)."""
    ranges = []
    for edge in (*(one for one in begun if one <= until), until + TICK):
        found = span(schedule, next(iter(schedule.next(since)), None), edge, disposition, reason)
        ranges += [found] if found else []
        since = max(since, edge)
    return ranges


def _too_old(
    catchup: Catchup, schedule: Schedule, next_run: datetime, now: datetime
) -> tuple[tuple[Range, ...], datetime | None]:
    """A range for what lies so far back that no policy can pick it, and the first instant after it."""
    edge = now - catchup.grace - catchup.window
    if next_run >= edge or len(_walk(schedule, next_run, edge)) <= COUNTED:
        return (), next_run
    missed = Range(next_run, edge, None, "missed", "it was due while no scheduler was running")
    return (missed,), next(iter(schedule.next(edge)), None)


def _walk(schedule: Schedule, first: datetime, before: datetime) -> list[datetime]:
    """The instants from `first` to before `before`, one more than COUNTED at most."""
    if first >= before:
        return []
    return [first, *(one for one in schedule.next(first, COUNTED) if one < before)]


def _kept(late: Sequence[datetime], catchup: Catchup, now: datetime) -> Sequence[datetime]:
    limit = {"none": 0, "last": 1, "all": catchup.limit}[catchup.policy]
    fresh = [one for one in late if one >= now - catchup.window]
    return fresh[len(fresh) - min(limit, len(fresh)) :]


def _due(
    schedule: Schedule, first: datetime | None, after: datetime | None, end: datetime
) -> Sequence[datetime]:
    if first is not None:
        return [] if first > end else [first, *(one for one in schedule.next(first, DENSEST) if one <= end)]
    return [] if after is None else [one for one in schedule.next(after, DENSEST) if one <= end]


def _missed(instants: Sequence[datetime]) -> Range:
    reason = "it was due while no scheduler was running"
    return Range(instants[0], instants[-1], len(instants), "missed", reason)
