"""Time on the UTC axis as whole seconds, and the stretches of it in which a zone's clocks do not move.

Within a stretch a wall clock is the UTC axis moved by a constant, so arithmetic holds there and nothing else
is needed; between stretches it is done anew. Seconds count from 1970-01-01T00:00Z.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from engine.schedule.dst import offset_at

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400
SETTLED = 4_102_444_800
"""2100-01-01: from here on a zone does each year what it did the year before, or nothing at all."""

LATEST = 221_845_392_000
"""9000-01-01: the end of the calendar, as far as schedules go."""

_SECOND = timedelta(seconds=1)
_FORETOLD = 1 << 31  # 2038; until then no stretch is shorter than 4 days, from then on none than weeks
_BLOCK = 1 << 25  # a little more than a year


def seconds_of(instant: datetime) -> int:
    """The first whole second that is not before the aware UTC `instant`."""
    return -((EPOCH - instant) // _SECOND)


def instant_of(second: int) -> datetime:
    """The aware UTC instant of a second."""
    return EPOCH + timedelta(seconds=second)


def stretch_at(zone: ZoneInfo, second: int) -> tuple[int, int, int]:
    """The first second of a stretch that holds `second`, the first after it, and its UTC offset in seconds.

    It may be cut short where nothing happens; the next one then has the same offset.
    """
    starts, offsets = _block(zone, second // _BLOCK)
    place = bisect_right(starts, second) - 1
    return starts[place], starts[place + 1], offsets[place]


def block_of(second: int) -> int:
    """The number of the block of time, a little more than a year, that holds `second`."""
    return second // _BLOCK


@lru_cache(maxsize=16_384)
def offsets_ahead(zone: ZoneInfo, block: int) -> frozenset[int]:
    """Every UTC offset that the zone's clocks have in a block of time and after it."""
    own = frozenset(_block(zone, block)[1])
    if block * _BLOCK >= SETTLED:
        return own.union(_block(zone, block + 1)[1])
    return own | offsets_ahead(zone, block + 1)


@lru_cache(maxsize=16_384)
def _block(zone: ZoneInfo, number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The beginnings of the stretches in a block of time and its end, and the offset of each."""
    if number * _BLOCK >= SETTLED + 2 * _BLOCK and (still := _still(zone)) is not None:
        return (number * _BLOCK, max(number + 1, LATEST // _BLOCK + 9) * _BLOCK), (still,)
    starts, offsets = _changes(zone, number * _BLOCK, (number + 1) * _BLOCK)
    return (*starts, (number + 1) * _BLOCK), offsets


def _changes(zone: ZoneInfo, low: int, high: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    starts, offsets = [low], [_offset(zone, low)]
    stride = 4 * DAY if low < _FORETOLD else 16 * DAY
    for later in (*range(low + stride, high, stride), high - 1):
        offset = _offset(zone, later)
        if offset != offsets[-1]:
            starts.append(_change(zone, max(later - stride, low), later))
            offsets.append(offset)
    return tuple(starts), tuple(offsets)


def _change(zone: ZoneInfo, low: int, high: int) -> int:
    """The first second of (low, high] with the offset of `high`; it changes once between the two."""
    target = _offset(zone, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset(zone, middle) == target else (middle, high)
    return high


@lru_cache(maxsize=1024)
def _still(zone: ZoneInfo) -> int | None:
    """The zone's offset for good, if its clocks move no more once things are settled."""
    _, offsets = _changes(zone, SETTLED, SETTLED + 2 * _BLOCK)
    return offsets[0] if len(offsets) == 1 else None


def _offset(zone: ZoneInfo, second: int) -> int:
    return offset_at(instant_of(second), zone) // _SECOND
