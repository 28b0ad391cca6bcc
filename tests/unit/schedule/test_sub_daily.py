"""Rules that count hours, minutes or seconds, against a walk over every second around changes of the clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ValidationFailed
from engine.schedule import occurrences
from engine.schedule.congruence import Digit, steps_into_range, steps_to_hit
from engine.schedule.zones import load_zone
from tests.examples import examples

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
UNITS = {"HOURLY": 3600, "MINUTELY": 60, "SECONDLY": 1}
TURNS = [  # zone and an instant within hours of which its clocks change, or the beginning of a calm day
    ("America/New_York", "2026-03-08T07:00"), ("America/New_York", "2026-11-01T06:00"),
    ("Europe/Chisinau", "2026-10-25T00:00"), ("Europe/Chisinau", "2026-03-29T00:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00"), ("Australia/Lord_Howe", "2026-10-03T15:30"),
    ("Pacific/Apia", "2011-12-30T10:00"), ("Africa/Casablanca", "2025-02-23T02:00"),
    ("Africa/Casablanca", "2025-04-06T02:00"), ("America/Sao_Paulo", "2018-02-18T02:00"),
    ("America/Sao_Paulo", "2018-11-04T03:00"), ("Asia/Kathmandu", "1985-12-31T18:30"), ("UTC", "2026-06-01T00:00"),
    ("America/Caracas", "2016-05-01T07:00"), ("Asia/Pyongyang", "2018-05-04T15:00"),
]  # fmt: skip


@dataclass(frozen=True)
class Beat:
    """A sub-daily rule as plain values. An empty set means that the part is not given."""

    freq: str
    interval: int
    hours: frozenset[int] = frozenset()
    minutes: frozenset[int] = frozenset()
    seconds: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    monthdays: frozenset[int] = frozenset()
    places: frozenset[int] = frozenset()
    count: int = 0

    def text(self) -> str:
        """The rule."""
        lists = {
            "BYHOUR": self.hours, "BYMINUTE": self.minutes, "BYSECOND": self.seconds, "BYMONTHDAY": self.monthdays,
            "BYSETPOS": self.places if self.hours or self.minutes or self.seconds else (),
        }  # fmt: skip
        parts = [f"FREQ={self.freq};INTERVAL={self.interval}"]
        parts += [f"{name}={','.join(map(str, sorted(found)))}" for name, found in lists.items() if found]
        parts += (
            ["BYDAY=" + ",".join(WEEKDAYS[day] for day in sorted(self.weekdays))] if self.weekdays else []
        )
        return ";".join(parts + ([f"COUNT={self.count}"] if self.count else []))

    def wants(self, wall: datetime) -> bool:
        """Whether the filters allow the minute `wall`."""
        return (
            (not self.hours or wall.hour in self.hours)
            and (not self.minutes or wall.minute in self.minutes)
            and (not self.weekdays or wall.weekday() in self.weekdays)
            and (not self.monthdays or wall.day in self.monthdays)
        )

    def fits(self, past: int) -> bool:
        """Whether a moment so many seconds after the full unit of the start lies where the rule puts one."""
        period, rest = divmod(past, UNITS[self.freq])
        if period < 0 or period % self.interval:
            return False
        if self.freq == "HOURLY" and self.minutes:
            return True
        return rest < 60 if self.seconds and self.freq != "SECONDLY" else rest == 0

    def walk(self, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
        """Its instants from `start` to `end`, found by looking at the clock every minute."""
        wall = start.astimezone(zone)
        listed = self.freq == "HOURLY" and bool(self.minutes)
        begin = start - listed * wall.minute * MINUTE
        begin -= (listed or bool(self.seconds and self.freq != "SECONDLY")) * start.second * SECOND
        seconds = sorted(self.seconds) or (range(60) if self.freq == "SECONDLY" else [start.second])
        groups: dict[int, list[datetime]] = {}
        for minute, shown in clock(zone, begin.replace(second=0), end + 60 * MINUTE):
            if self.wants(shown):
                for past in (int((minute - begin).total_seconds()) + second for second in seconds):
                    if self.fits(past):
                        groups.setdefault(past // UNITS[self.freq], []).append(begin + past * SECOND)
        chosen = [at for group in groups.values() for at in self.pick(group) if start <= at <= end]
        return chosen[: self.count] if self.count else chosen

    def pick(self, group: list[datetime]) -> list[datetime]:
        """The positions of one period's set that BYSETPOS names."""
        if "BYSETPOS" not in self.text():
            return group
        if min(map(abs, self.places)) > max(len(self.minutes), 1) * max(len(self.seconds), 1):
            return []  # refused, though an hour in which the clock moves by half an hour may show a minute twice
        size = len(group)
        wanted = {place - 1 if place > 0 else size + place for place in self.places}
        return [group[place] for place in sorted(wanted) if 0 <= place < size]


def clock(zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Each minute with what the clocks show."""
    for number in range((end - begin) // MINUTE + 1):
        yield begin + number * MINUTE, shown(zone, begin + number * MINUTE)


@lru_cache(maxsize=200_000)
def shown(zone: ZoneInfo, minute: datetime) -> datetime:
    """What clocks show at an instant."""
    return minute.astimezone(zone).replace(tzinfo=None, fold=0)


def some(low: int, high: int, most: int) -> st.SearchStrategy[frozenset[int]]:
    """No numbers, or a few from a range."""
    return st.just(frozenset()) | st.frozensets(st.integers(low, high), min_size=1, max_size=most)


INTERVALS = st.integers(1, 9) | st.sampled_from([12, 15, 24, 25, 29, 45, 60, 90, 121, 1439, 1440, 86399])
beats = st.builds(
    Beat,
    st.sampled_from(list(UNITS)),
    INTERVALS,
    some(0, 5, 4) | st.just(frozenset({23, 0})),
    some(0, 59, 4) | st.sampled_from([frozenset({0}), frozenset({0, 30}), frozenset(range(60))]),
    some(0, 59, 3),
    some(0, 6, 5),
    some(1, 31, 20),
    st.sampled_from([frozenset[int](), frozenset(), frozenset({1}), frozenset({-1}), frozenset({2, -2})]),
    st.just(0) | st.integers(1, 40) | st.integers(1, 4000),
)  # fmt: skip
situations = st.tuples(st.sampled_from(TURNS), st.integers(0, 8 * 3600), st.integers(0, 40 * 3600))


def reach(*all_beats: Beat) -> timedelta:
    """How far a walk goes: seconds are many."""
    return timedelta(
        hours=5 if any(beat.freq == "SECONDLY" and not beat.seconds for beat in all_beats) else 60
    )


def check(text: str, expected: list[datetime], zone: str, start: datetime, end: datetime, later: int) -> None:
    """The schedule agrees with the walk from its start, and from a later moment."""
    for after in (None, start + later * SECOND):
        wanted = [at for at in expected if after is None or at > after][:400]
        found = answer(text, zone, start, after, len(wanted) or 1)
        if wanted:
            assert found == wanted, (text, zone, start, after)
        elif found:
            assert found[0] > end, (text, zone, start, after)


def answer(text: str, zone: str, start: datetime, after: datetime | None, limit: int) -> list[datetime]:
    """The schedule's instants; none where it is refused."""
    with suppress(ValidationFailed):
        return occurrences("rrule", text, zone, start, after, limit)
    return []


@examples(30)
@given(beats, situations)
def test_against_every_minute(beat: Beat, situation: tuple[tuple[str, str], int, int]) -> None:
    """Elapsed units are counted from the start and the clock on the wall only filters, also where it moves."""
    (zone, turn), early, later = situation
    start = datetime.fromisoformat(turn).replace(tzinfo=UTC) - early * SECOND
    end = start + reach(beat)
    check(beat.text(), beat.walk(load_zone(zone), start, end), zone, start, end, later)


@examples(15)
@given(beats, beats, situations)
def test_a_rule_less_another(beat: Beat, taken: Beat, situation: tuple[tuple[str, str], int, int]) -> None:
    """EXRULE takes away exactly the instants that it has, however many in a row these are."""
    (zone, turn), early, later = situation
    start = datetime.fromisoformat(turn).replace(tzinfo=UTC) - early * SECOND
    end = start + reach(beat, taken)
    left, gone = (one.walk(load_zone(zone), start, end) for one in (beat, taken))
    expected = sorted(set(left) - set(gone))
    if not answer(taken.text(), zone, start, None, 1):
        return  # an EXRULE that never fires is refused, as a slip
    check(f"RRULE:{beat.text()}\nEXRULE:{taken.text()}", expected, zone, start, end, later)


@examples(60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 5000),
    st.lists(
        st.tuples(st.sampled_from([2, 3, 5, 6, 7, 10, 12]), st.frozensets(st.integers(0, 11), max_size=4)),
        min_size=1,
        max_size=4,
    ),
)
def test_steps_to_hit_are_the_fewest(
    number: int, interval: int, drawn: list[tuple[int, frozenset[int]]]
) -> None:
    """Residues tell the same number of steps as walking does, and no number where walking finds none."""
    digits: tuple[Digit, ...] = tuple((size, tuple(sorted({n % size for n in some}))) for size, some in drawn)
    cycle = 1
    for size, _ in digits:
        cycle *= size

    def hits(step: int) -> bool:
        rest = number + step * interval
        for size, allowed in digits:
            rest, digit = divmod(rest, size)
            if allowed and digit not in allowed:
                return False
        return True

    assert steps_to_hit(number, interval, digits) == next(filter(hits, range(cycle)), None)


@given(st.integers(1, 500), st.integers(2, 500), st.data())
def test_steps_into_a_range_are_the_fewest(interval: int, modulus: int, data: st.DataObject) -> None:
    """The first multiple whose residue lies in a range is found, whatever the two numbers."""
    low = data.draw(st.integers(0, modulus - 1))
    high = data.draw(st.integers(low, modulus - 1))
    walked = (k for k in range(modulus) if low <= k * interval % modulus <= high)
    assert steps_into_range(interval, modulus, low, high) == next(walked, None)


@pytest.mark.parametrize("text", [
    "RRULE:FREQ=SECONDLY\nEXRULE:FREQ=SECONDLY;BYHOUR=" + ",".join(map(str, range(23))),
    "RRULE:FREQ=MINUTELY\nEXRULE:FREQ=SECONDLY;BYHOUR=" + ",".join(map(str, range(23))),
    "RRULE:FREQ=SECONDLY\nEXRULE:FREQ=HOURLY;BYMINUTE=" + ",".join(map(str, range(60)))
    + ";BYSECOND=" + ",".join(map(str, range(60))) + ";BYHOUR=" + ",".join(map(str, range(23))),
    "RRULE:FREQ=DAILY;BYHOUR=0,12,23\nEXRULE:FREQ=HOURLY;BYHOUR=0,12",
    "RRULE:FREQ=SECONDLY\nEXRULE:FREQ=DAILY;BYHOUR=" + ",".join(map(str, range(23)))
    + ";BYMINUTE=" + ",".join(map(str, range(60))) + ";BYSECOND=" + ",".join(map(str, range(60))),
])  # fmt: skip
def test_what_dense_exclusion_leaves(text: str) -> None:
    """One hour a day is left of a rule of which another takes the other twenty-three."""
    found = occurrences("rrule", text, "Europe/Berlin", datetime(2026, 1, 1), None, 1)
    assert found == [datetime(2026, 1, 1, 22, tzinfo=UTC)]


@pytest.mark.parametrize("freq", ["MINUTELY", "SECONDLY", "HOURLY", "DAILY"])
@pytest.mark.parametrize("taken", ["MINUTELY", "SECONDLY"])
def test_eleven_months_taken_away(freq: str, taken: str) -> None:
    """Half a million excluded occurrences in a row are leapt over, not taken for the end."""
    text = f"RRULE:FREQ={freq}\nEXRULE:FREQ={taken};BYMONTH=1,2,3,4,5,6,7,8,9,10,11"
    if (freq, taken) == ("SECONDLY", "MINUTELY"):
        text += ";BYSECOND=" + ",".join(map(str, range(60)))
    for year in (2026, 2027):
        after = datetime(year, 1, 5, tzinfo=UTC)
        found = occurrences("rrule", text, "America/New_York", datetime(2026, 1, 1), after, 1)
        assert found == [datetime(year, 12, 1, 5, tzinfo=UTC)]


def test_excluded_days_are_leapt_over() -> None:
    """A thousand excluded days of a rule of every second cost a thousand days, not as many seconds."""
    days = [(datetime(2026, 1, 1) + timedelta(days=day)).date() for day in range(1000)]
    found = occurrences(
        "rrule", "FREQ=SECONDLY", "Europe/Berlin", datetime(2026, 1, 1), None, 1, exdates=days
    )
    assert found == [datetime(2028, 9, 26, 22, tzinfo=UTC)]


NEVER = [
    "RRULE:FREQ=DAILY\nEXRULE:FREQ=DAILY;BYHOUR=0", "RRULE:FREQ=DAILY\nEXRULE:FREQ=HOURLY",
    "RRULE:FREQ=MINUTELY\nEXRULE:FREQ=SECONDLY", "RRULE:FREQ=SECONDLY\nEXRULE:FREQ=MINUTELY;BYSECOND="
    + ",".join(map(str, range(60))), "RRULE:FREQ=HOURLY;INTERVAL=24\nEXRULE:FREQ=HOURLY",
    "FREQ=HOURLY;INTERVAL=168;BYDAY=TU,WE", "FREQ=MINUTELY;INTERVAL=1440;BYHOUR=3;BYMINUTE=30",
    "FREQ=SECONDLY;INTERVAL=2;BYSECOND=1", "FREQ=SECONDLY;INTERVAL=86400;BYMINUTE=7",
]  # fmt: skip


@pytest.mark.parametrize("text", NEVER)
def test_what_never_fires_is_refused(text: str) -> None:
    """Residues and solid exclusion are found out at definition, with their own code."""
    with pytest.raises(ValidationFailed) as caught:
        occurrences("rrule", text, "UTC", datetime(2026, 1, 1), None, 1)
    assert caught.value.errors[0].code in ("never_fires", "excluded")


HALVES = "RRULE:FREQ=SECONDLY\nEXRULE:FREQ=SECONDLY;BYSECOND={}\nEXRULE:FREQ=SECONDLY;BYSECOND={}"


def test_a_search_without_end_is_an_error() -> None:
    """Two rules that take everything only together exhaust the budget: refused, and never taken for an end."""
    even, odd = (",".join(str(second) for second in range(60) if second % 2 == part) for part in (0, 1))
    with pytest.raises(ValidationFailed, match="in a row are excluded"):
        occurrences("rrule", HALVES.format(even, odd), "UTC", datetime(2026, 1, 1), None, 1)


@pytest.mark.parametrize(
    ("rule", "zone"),
    [
        ("FREQ=HOURLY;BYHOUR=1,9;BYDAY=MO,SU", "America/New_York"),
        ("FREQ=MINUTELY;INTERVAL=7;BYHOUR=9", "Europe/Berlin"),
        ("FREQ=HOURLY;BYMINUTE=0,20;BYHOUR=1,2,3", "Australia/Lord_Howe"),
        ("FREQ=HOURLY;INTERVAL=5;BYMINUTE=0,20,40;BYSETPOS=-1,1", "Australia/Lord_Howe"),
        ("FREQ=SECONDLY;INTERVAL=1000;BYMONTHDAY=1,15,31", "UTC"),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 499, 500])
def test_count_ends_where_counting_does(rule: str, zone: str, count: int) -> None:
    """COUNT is reckoned by whole days; the end is the same as of a list that is cut off."""
    start = datetime(2025, 12, 30, 0, 30)
    listed = occurrences("rrule", rule, zone, start, None, 501)
    counted = f"{rule};COUNT={count}"
    assert occurrences("rrule", counted, zone, start, None, 501) == listed[:count]
    assert occurrences("rrule", counted, zone, start, listed[count - 1] - SECOND, 2) == [listed[count - 1]]
    assert occurrences("rrule", counted, zone, start, listed[count - 1], 2) == []


def test_both_passes_of_a_repeated_hour_count() -> None:
    """Filters look at the clock, which shows one o'clock twice in autumn and two o'clock never in spring."""
    autumn = occurrences(
        "rrule", "FREQ=HOURLY;BYHOUR=1;COUNT=3", "America/New_York", datetime(2026, 10, 31), None, 9
    )
    assert [at.isoformat()[5:16] for at in autumn] == ["10-31T05:00", "11-01T05:00", "11-01T06:00"]
    spring = occurrences(
        "rrule", "FREQ=HOURLY;BYHOUR=2;COUNT=3", "America/New_York", datetime(2026, 3, 7), None, 9
    )
    assert [at.isoformat()[5:16] for at in spring] == ["03-07T07:00", "03-09T06:00", "03-10T06:00"]
