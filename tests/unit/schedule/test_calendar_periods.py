"""Seeking and counting by periods: what is found, and in how many steps, whatever the age and however rare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.schedule import parse_schedule, rruler, shapes
from engine.schedule.calendar_periods import Periods
from engine.schedule.daytimes import DayTimes
from engine.schedule.rule import parse_rule
from tests.examples import examples

START = datetime(2026, 1, 1, 9)
DAY = timedelta(days=1)
RULES = [
    "FREQ=DAILY;INTERVAL=3", "FREQ=DAILY;BYMONTH=1,6", "FREQ=DAILY;INTERVAL=2;BYDAY=MO,FR",
    "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH", "FREQ=WEEKLY;INTERVAL=5;BYDAY=MO,TH;BYMONTH=7",
    "FREQ=MONTHLY;BYDAY=-1FR", "FREQ=MONTHLY;BYDAY=MO,TU,WE;BYSETPOS=2", "FREQ=MONTHLY;BYMONTHDAY=13;BYDAY=FR",
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "FREQ=YEARLY;BYDAY=20MO", "FREQ=YEARLY;BYWEEKNO=20",
    "FREQ=DAILY;BYHOUR=0,6,12,18;BYMINUTE=0,15,30,45;BYSECOND=0,20,40",
]  # fmt: skip
RARE = [
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO", "FREQ=DAILY;INTERVAL=97;BYMONTHDAY=13;BYDAY=FR",
    "FREQ=MONTHLY;INTERVAL=7;BYMONTH=2;BYMONTHDAY=29", "FREQ=YEARLY;BYWEEKNO=53;BYDAY=SU;BYMONTH=1;BYMONTHDAY=3",
    "FREQ=WEEKLY;INTERVAL=52;BYMONTH=12", "FREQ=YEARLY;INTERVAL=25;BYYEARDAY=366", "FREQ=DAILY;INTERVAL=100000",
    "FREQ=DAILY;INTERVAL=2;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO",
]  # fmt: skip
NEVER = [
    "FREQ=DAILY;INTERVAL=7;BYDAY=TU", "FREQ=DAILY;INTERVAL=2;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=DAILY;INTERVAL=100000;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO", "FREQ=MONTHLY;INTERVAL=12;BYMONTH=2",
    "FREQ=MONTHLY;BYDAY=6MO", "FREQ=YEARLY;BYDAY=6MO;BYMONTH=1,2,3", "FREQ=YEARLY;BYWEEKNO=20;BYMONTH=1",
    "FREQ=YEARLY;BYWEEKNO=-53;BYMONTH=2", "FREQ=WEEKLY;BYDAY=MO;BYSETPOS=2", "FREQ=DAILY;BYHOUR=9;BYSETPOS=2",
    "FREQ=YEARLY;INTERVAL=4;BYMONTH=2;BYMONTHDAY=29", "FREQ=MONTHLY;BYDAY=1MO;BYMONTHDAY=8",
]  # fmt: skip


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Counts runs of periods that are looked through, and wall times that are listed, since the last call."""
    count = 0

    def counted(name: str) -> Callable[..., Iterator[object]]:
        original = getattr(Periods, name)

        def counting(*arguments: object) -> Iterator[object]:
            nonlocal count
            for found in original(*arguments):
                count += 1
                yield found

        return counting

    for name in ("_chunks", "_listed"):
        monkeypatch.setattr(Periods, name, counted(name))

    def since() -> int:
        nonlocal count
        seen, count = count, 0
        return seen

    return since


@pytest.mark.parametrize("rule", RULES)
def test_seek_cost_does_not_grow_with_age(rule: str, steps: Callable[[], int]) -> None:
    """One answer takes as few steps for a DTSTART of a century ago as for a recent one."""
    taken = []
    for age in (1, 30, 100):
        schedule = parse_schedule("rrule", rule, "Europe/Berlin", datetime(2025 - age, 1, 6, 9), {})
        steps()
        for week in range(100):
            assert schedule.next(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(weeks=week))
        taken.append(steps())
    assert taken[0] <= 100 * 4
    assert max(taken) <= taken[0] + 4


@pytest.mark.parametrize("rule", RARE)
def test_rare_days_are_found_in_few_steps(rule: str, steps: Callable[[], int]) -> None:
    """Empty months, years and decades are passed over, not walked through."""
    calendar = rruler.prepare(parse_rule(rule), START)
    steps()
    first = next(rruler.walls(calendar, START))
    for years in range(0, 400, 7):
        found = next(rruler.walls(calendar, START + years * 365 * DAY))
        assert found >= first
    assert steps() <= 58 * 8


@pytest.mark.parametrize("rule", NEVER)
def test_what_never_fires_is_found_out_in_few_steps(rule: str, steps: Callable[[], int]) -> None:
    """The whole rest of the calendar is searched, a cycle of 400 years at a time."""
    assert not rruler.fires(rruler.prepare(parse_rule(rule), START.replace(day=5)))
    assert steps() <= 200


@pytest.mark.parametrize("rule", [*RULES, *RARE])
@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_the_last_of_a_count(rule: str, count: int) -> None:
    """COUNT is used up by the wall time that listing comes to, counted from DTSTART on."""
    start = datetime(2024, 2, 12, 13, 30)
    listed = list(islice(rruler.walls(rruler.prepare(parse_rule(rule), start), start), count))
    calendar = rruler.prepare(parse_rule(f"{rule};COUNT={count}"), start)
    assert calendar.last == (listed[-1] if len(listed) == count else None)
    assert list(rruler.walls(calendar, start)) == listed


@pytest.mark.parametrize("rule", [*RULES, *RARE])
def test_a_large_count_is_not_walked(rule: str, steps: Callable[[], int]) -> None:
    """The hundred-thousandth occurrence, or the calendar's end before it, is found without listing any."""
    calendar = rruler.prepare(parse_rule(f"{rule};COUNT=100000"), START)
    assert steps() <= 200
    assert calendar.last is None or calendar.last > START


@pytest.mark.parametrize("interval", [2, 3, 5, 7, 28, 97, 773])
def test_very_few_days_are_searched_one_by_one(interval: int) -> None:
    """Trying each of a few days comes to what looking through the table comes to, nothing included."""
    rule = parse_rule(f"FREQ=DAILY;INTERVAL={interval};BYMONTH=2;BYMONTHDAY=29;BYDAY=MO,SA")
    found = rruler.prepare(rule, START).periods
    assert 20 < len(found.shapes.rare) < 40
    searched = replace(found, shapes=replace(found.shapes, rare=()))
    for seek in (START, START + 365 * 900 * DAY):
        assert list(islice(found.walls(seek), 50)) == list(islice(searched.walls(seek), 50))


def test_a_position_is_counted_in_the_whole_first_period() -> None:
    """BYSETPOS counts days of DTSTART's own month, week and year that lie before DTSTART."""
    start = datetime(2026, 1, 15, 9)  # a Thursday
    for rule, expected in (
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1,-1", ["01-30", "02-02", "02-27"]),
        ("FREQ=WEEKLY;BYDAY=MO,WE,FR;BYSETPOS=2,3", ["01-16", "01-21", "01-23"]),
        ("FREQ=YEARLY;BYMONTHDAY=15;BYSETPOS=1,2", ["01-15", "02-15", "01-15"]),
    ):
        calendar = rruler.prepare(parse_rule(rule), start)
        assert [f"{wall:%m-%d}" for wall in islice(rruler.walls(calendar, start), 3)] == expected


def test_a_year_of_weeks_counts_from_its_own_first_week() -> None:
    """With INTERVAL=2, week 1 of 2026 belongs to 2026 although it begins in 2025."""
    calendar = rruler.prepare(
        parse_rule("FREQ=YEARLY;INTERVAL=2;BYWEEKNO=1;BYDAY=MO"), datetime(2025, 12, 29, 9)
    )
    found = [f"{wall:%Y-%m-%d}" for wall in islice(rruler.walls(calendar, calendar.dtstart), 3)]
    assert found == ["2025-12-29", "2028-01-03", "2029-12-31"]


numbers = st.lists(st.integers(0, 59), min_size=1, max_size=5, unique=True).map(
    lambda found: tuple(sorted(found))
)
hours = st.lists(st.integers(0, 23), min_size=1, max_size=4, unique=True).map(
    lambda found: tuple(sorted(found))
)


@given(hours, numbers, numbers, st.times())
def test_times_of_day_are_a_sequence(
    h: tuple[int, ...], m: tuple[int, ...], s: tuple[int, ...], at: time
) -> None:
    """Three lists behave as the sorted list of their product does."""
    times, plain = DayTimes(h, m, s), [time(*found) for found in product(h, m, s)]
    assert list(times) == plain
    assert list(times[1:-1]) == plain[1:-1]
    assert times[-1] == plain[-1]
    assert times.before(at) == sum(found < at for found in plain)
    with pytest.raises(IndexError):
        times[len(plain)]


@examples(20)
@given(st.integers(1900, 2400), st.integers(1, 12), st.integers(-5, 5), st.integers(0, 6))
def test_a_month_is_its_shape(year: int, month: int, ordinal: int, weekday: int) -> None:
    """The table of the cycle gives each month the days that looking at each of its days gives."""
    found = shapes.month_shapes(shapes.DayParts(byday=((ordinal, weekday),)))
    shape = found.table[(year * 12 + month - 13) % 4800]
    days = [date(year, month, 1) + number * DAY for number in range(31)]
    alike = [day.day for day in days if day.month == month and day.weekday() == weekday]
    places = (
        slice(None)
        if ordinal == 0
        else slice(ordinal - 1, ordinal)
        if ordinal > 0
        else slice(ordinal, ordinal + 1 or None)
    )
    assert [place + 1 for place in shapes.days_of(found.masks[shape])] == alike[places]
