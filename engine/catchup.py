"""What a tick writes for one task: which instants run, which are only accounted for, and what comes next.

Pure: it takes the instant and answers with a plan. Every instant between the task's `next_run` and the
horizon is in the plan exactly once, as a run or inside a range with its reason (promise (a) of DESIGN).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain, islice, takewhile, zip_longest
from typing import Any

from engine.durations import parse_duration
from engine.schedule import Schedule

TICK = timedelta(microseconds=1)
"""The finest step of time there is here: the unit of `datetime` and of PostgreSQL."""
DENSEST = 1000
"""Instants of one task that one tick makes into runs, at most; the next tick goes on from there."""
COUNTED = 10_000
"""Missed instants that are walked and counted; a longer range is written without a count."""
REACH = timedelta(minutes=1)
"""How far back the search for late instants looks at first."""
FARTHEST = timedelta(hours=26)
"""How far a change of zone rules can move an instant: from the westernmost offset to the easternmost."""
SPARE = 100
"""How many more late instants than are wanted that search may come upon before it narrows."""

DEFAULT_WINDOW = timedelta(days=1)
DEFAULT_LIMIT = 100
_MOST = {"none": 0, "last": 1}


@dataclass(frozen=True, slots=True)
class Catchup:
    """What happens to instants that are past when a scheduler comes to them, or that no worker starts.

    `policy` none: they are missed; last: the newest one runs; all: up to `limit` of them run. Nothing older
    than `window` ever runs. `grace` is how late an instant may be and still count as on time; `apart` how far
    apart instants must be for the later to run at all, whatever becomes of the earlier (a dedupe key).
    """

    policy: str = "last"
    window: timedelta = DEFAULT_WINDOW
    limit: int = DEFAULT_LIMIT
    grace: timedelta = timedelta(seconds=30)
    apart: timedelta = timedelta(0)

    @classmethod
    def of(cls, options: Mapping[str, Any], grace: timedelta) -> Catchup:
        """From the `catchup` member of a task's schedule options."""
        given = options.get("catchup")
        if not given:
            return cls(grace=grace)
        window = parse_duration(given["window"]) if "window" in given else DEFAULT_WINDOW
        return cls(given.get("policy", "last"), window, given.get("max", DEFAULT_LIMIT), grace)

    def of_probes(self, interval: timedelta) -> Catchup:
        """The same for a condition that is probed at this interval: a probe sees the present, whatever its instant.

        So an instant makes way for the next one at once; under `none` it may be late by one interval.
        """
        return replace(self, grace=timedelta(0) if self.most else min(self.grace, interval))

    @property
    def most(self) -> int:
        """How many late instants may run."""
        return _MOST[self.policy] if self.policy in _MOST else {"all": self.limit}[self.policy]

    def expiry(self, instant: datetime, replaced: datetime | None) -> datetime:
        """When an unstarted run of `instant` becomes missed: `replaced` is the instant that is `most` later.

        So no more than `most` late runs ever wait, whether schedulers or workers were away.
        """
        if not self.most:
            return instant + self.grace
        if replaced is None:
            return instant + self.window
        least = max(self.grace, min(self.window, self.most * self.apart))
        return min(instant + self.window, max(replaced, instant + least))


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


def passed(schedule: Schedule, now: datetime, grace: timedelta) -> Range | None:
    """The instant of a `once` that is over when its task is stored at `now`: no catch-up policy brings it back."""
    if schedule.kind != "once" or schedule.next(now - grace):
        return None
    return span(schedule, schedule.next(None)[0], now, "missed", "it had passed when the task was stored")


def plan(
    schedule: Schedule,
    catchup: Catchup,
    next_run: datetime,
    now: datetime,
    horizon: timedelta,
    countable: int = COUNTED,
) -> Plan:
    """Account for every instant from `next_run` to `now + horizon`, or for the first DENSEST that are on time.

    Of those that are later than the grace only such run as are still among the newest that the policy allows;
    the others are one range, counted if they are at most `countable`.
    """
    edge, late = now - catchup.grace, list[datetime]()
    ranges: tuple[Range, ...] = ()
    ahead: Iterator[datetime] = chain((next_run,), schedule.walk(next_run))
    if next_run < edge:
        newest = _newest(schedule, max(next_run, now - catchup.window), now + TICK, catchup.most)
        late = [one for one in newest if one < edge]
        reason = "it was due while no scheduler was running"
        dropped = span(schedule, next_run, late[0] if late else edge, "missed", reason, countable)
        ranges = (dropped,) if dropped else ()
        ahead = schedule.walk(edge - TICK)
    due, following = _until(ahead, now + horizon, DENSEST)
    instants = [*late, *due]
    known = _known(instants, following, ahead, catchup)
    runs = tuple((one, catchup.expiry(one, end)) for one, end in zip_longest(instants, known))
    return Plan(runs, ranges, following)


def counterpart(schedule: Schedule, instant: datetime) -> datetime | None:
    """What this schedule names instead of an instant that other zone rules named: the nearest, or the same."""
    return _nearest(schedule, instant, instant - FARTHEST, instant)


def replanned(schedule: Schedule, instant: datetime, since: datetime, now: datetime) -> datetime | None:
    """The next run of a task whose `instant` was named under other zone rules; up to `since` all is told.

    From now on it is what the schedule names; but if the counterpart of `instant` lies before, that is late and
    not lost.
    """
    return _nearest(schedule, instant, since + TICK, max(since + TICK, min(instant, now + TICK)))


def _nearest(schedule: Schedule, instant: datetime, oldest: datetime, edge: datetime) -> datetime | None:
    """Of the last in [oldest, edge) and the first from `edge` on, the one that is nearer to `instant`."""
    earlier = _newest(schedule, max(oldest, instant - FARTHEST), edge, 1)
    later = next(schedule.walk(edge - TICK), None)
    if earlier and (later is None or abs(instant - earlier[0]) < abs(later - instant)):
        return earlier[0]
    return later


def span(
    schedule: Schedule,
    first: datetime | None,
    until: datetime,
    disposition: str,
    reason: str,
    countable: int = COUNTED,
) -> Range | None:
    """The range of instants from `first` (inclusive) to before `until`; None when there is none.

    A range of more than `countable` instants is written without a count, unless they are evenly spaced.
    """
    if first is None or first >= until:
        return None
    if schedule.period:
        end = until if schedule.end is None else min(until, schedule.end + TICK)
        more = (end - TICK - first) // schedule.period
        return Range(first, first + more * schedule.period, more + 1, disposition, reason)
    count, last = 0, first
    for instant in chain((first,), schedule.walk(first)):
        if instant >= until:
            break
        if count == countable:
            return Range(first, until - TICK, None, disposition, reason)
        count, last = count + 1, instant
    return Range(first, last, count, disposition, reason)


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


def _newest(schedule: Schedule, oldest: datetime, edge: datetime, most: int) -> list[datetime]:
    """The last `most` instants in [oldest, edge), found backwards: a backlog of any length costs the same.

    The search reaches further back until there are enough; where a burst holds too many, it is halved.
    """
    few, many, since = edge, None, max(oldest, edge - REACH)
    while most:
        found = _before(schedule, since, edge, most + SPARE)
        if len(found) == most + SPARE:
            many = since
        elif len(found) >= most or since == oldest:
            return found[-most:]
        else:
            few = since
        since = many + (few - many) / 2 if many else max(oldest, edge - 8 * (edge - since))
    return []


def _before(schedule: Schedule, since: datetime, edge: datetime, limit: int) -> list[datetime]:
    """The first `limit` instants in [since, edge)."""
    return list(islice(takewhile(lambda one: one < edge, schedule.walk(since - TICK)), limit))


def _until(ahead: Iterator[datetime], end: datetime, limit: int) -> tuple[list[datetime], datetime | None]:
    """Up to `limit` instants that are not after `end`, and the one that follows them."""
    found: list[datetime] = []
    for instant in ahead:
        if instant > end or len(found) == limit:
            return found, instant
        found.append(instant)
    return found, None


def _known(
    instants: Sequence[datetime], following: datetime | None, ahead: Iterator[datetime], catchup: Catchup
) -> list[datetime]:
    """For each of `instants` the one that is `most` later, as far as it lies within the window; shorter at the end."""
    known = [*instants] if following is None else [*instants, following]
    wanted = len(instants) + catchup.most
    while known and following and len(known) < wanted and known[-1] < instants[-1] + catchup.window:
        later = next(ahead, None)
        if later is None:
            break
        known.append(later)
    return known[catchup.most : wanted]
