"""The one place where a wall-clock time becomes an instant.

Twice a year a zone has wall times that do not exist (the gap) or exist twice (the fold). Every kind of
schedule that speaks in wall time resolves it here, under the schedule's own policy, so that a nine o'clock
job fires once at nine and a job at 02:30 neither vanishes in spring nor doubles in autumn. The reading of a
gap called `shift` is RFC 5545 section 3.3.5 with its erratum 4271: use the offset in force before the gap.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from zoneinfo import ZoneInfo

Gap = Literal["shift", "next_valid", "skip"]
Fold = Literal["first", "second", "both"]

_REACH = timedelta(hours=26)  # a little more than the longest shift ever: a whole day, Apia in 2011
_SECOND = timedelta(seconds=1)
_BLOCK = 8  # days


@dataclass(frozen=True, slots=True)
class DstPolicy:
    """What happens to a wall time that does not exist, and to one that exists twice."""

    gap: Gap = "shift"
    fold: Fold = "first"


def resolve(wall: datetime, zone: ZoneInfo, policy: DstPolicy) -> tuple[datetime, ...]:
    """The UTC instants, ascending, that the naive `wall` means in `zone`: none, one or two."""
    before, after = _offsets(wall, zone)
    if before == after:
        return ((wall - before).replace(tzinfo=UTC),)
    earlier = (wall - before).replace(tzinfo=UTC)
    later = (wall - after).replace(tzinfo=UTC)
    if before < after:
        return _in_gap(earlier, later, zone, policy.gap)
    return {"first": (earlier,), "second": (later,), "both": (earlier, later)}[policy.fold]


def earliest(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant at which clocks in `zone` show `wall` or, where it is skipped, something later."""
    return resolve(wall, zone, DstPolicy(gap="next_valid"))[0]


def latest(wall: datetime, zone: ZoneInfo) -> datetime:
    """The last instant meant by `wall`, reading a skipped time with the offset before the gap."""
    return resolve(wall, zone, DstPolicy(fold="second"))[0]


def in_order(walls: Iterable[datetime], zone: ZoneInfo, policy: DstPolicy) -> Iterator[datetime]:
    """The instants of ascending naive `walls`, ascending and without repeats.

    Near a transition the order of instants is not that of walls (02:30 shifted to 03:30 comes after 03:00),
    and two walls may share an instant. Invariant: no later wall resolves before `earliest` of this one.
    """
    waiting: list[datetime] = []
    last = datetime.min.replace(tzinfo=UTC)
    for wall in walls:
        before, after = _offsets(wall, zone)
        if before == after:
            floor = (wall - before).replace(tzinfo=UTC)
            if not waiting:
                if floor > last:
                    last = floor
                    yield floor
                continue
            heapq.heappush(waiting, floor)
        else:
            floor = earliest(wall, zone)
            for instant in resolve(wall, zone, policy):
                heapq.heappush(waiting, instant)
        while waiting and waiting[0] <= floor:
            instant = heapq.heappop(waiting)
            if instant > last:
                last = instant
                yield instant
    yield from (instant for instant in sorted(set(waiting)) if instant > last)


def seek_wall(instant: datetime, zone: ZoneInfo) -> datetime:
    """A naive wall time such that no earlier wall resolves to `instant` or after it.

    Away from transitions that is the wall time of `instant` itself; near one it is as much earlier as the
    clocks move, because a skipped wall fires late and a repeated one may fire at its second turn.
    """
    calm = _calm_offset(zone, instant.toordinal() // _BLOCK)
    if calm is not None:
        return instant.replace(tzinfo=None) + calm
    here = offset_at(instant, zone)
    move = max(abs(here - offset_at(instant + reach, zone)) for reach in (-_REACH, _REACH))
    near = move + _SECOND
    if offset_at(instant - near, zone) == here == offset_at(instant + near, zone):
        move = timedelta(0)  # farther from the change than it moves clocks, no wall fires at another's time
    return instant.replace(tzinfo=None) + here - move


def calm_wall(instant: datetime, zone: ZoneInfo) -> datetime | None:
    """The wall time at the UTC `instant` where no transition is anywhere near: it and no other means the instant."""
    calm = _calm_offset(zone, instant.toordinal() // _BLOCK)
    return None if calm is None else instant.replace(tzinfo=None) + calm


def local(instant: datetime, zone: ZoneInfo) -> datetime:
    """The naive wall time in `zone` at the UTC `instant`."""
    wall = calm_wall(instant, zone)
    if wall is not None:
        return wall
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def offset_at(instant: datetime, zone: ZoneInfo) -> timedelta:
    """The UTC offset in force in `zone` at `instant`."""
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def transition_between(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The first whole second in (low, high] with the offset of `high`; it changes once between the two."""
    target = offset_at(high, zone)
    steps = (high - low) // _SECOND
    least = 0
    while steps - least > 1:
        middle = (steps + least) // 2
        if offset_at(high - middle * _SECOND, zone) == target:
            least = middle
        else:
            steps = middle
    return high - least * _SECOND


def _in_gap(shifted: datetime, back: datetime, zone: ZoneInfo, gap: Gap) -> tuple[datetime, ...]:
    """`back` and `shifted`: the wall read with the offset after and before the gap, which lies between."""
    if gap == "skip":
        return ()
    return (shifted,) if gap == "shift" else (transition_between(back, shifted, zone),)


def _offsets(wall: datetime, zone: ZoneInfo) -> tuple[timedelta, timedelta]:
    """The UTC offsets that PEP 495 gives for fold 0 and 1: equal, except within a gap or a fold."""
    calm = _calm_offset(zone, wall.toordinal() // _BLOCK)
    if calm is not None:
        return calm, calm
    aware = wall.replace(tzinfo=zone, fold=0)
    before, after = aware.utcoffset(), aware.replace(fold=1).utcoffset()
    assert before is not None
    assert after is not None
    return before, after


@lru_cache(maxsize=16_384)
def _calm_offset(zone: ZoneInfo, block: int) -> timedelta | None:
    """The UTC offset around an 8-day block of day numbers, if no transition is anywhere near; else None.

    Most questions are about calm days, and one look-up then replaces four or more. Two days on either side
    cover both the reach of a transition and the distance between a wall time and its instant.
    """
    start = datetime.combine(date.fromordinal(max(block * _BLOCK, 366)), time(), UTC)
    offsets = {offset_at(start + timedelta(days=days), zone) for days in range(-2, _BLOCK + 3)}
    return offsets.pop() if len(offsets) == 1 else None
