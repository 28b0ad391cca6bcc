"""The preview of a schedule: what the days on which clocks change do to it, and what it leaves out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.schedule import parse_schedule
from engine.schedule.preview import MOST_LEFT_OUT, Preview, clock_changes, preview
from engine.schedule.zones import load_zone
from tests.examples import examples

SPRING = datetime(2027, 3, 13, 12, tzinfo=UTC)  # the day before clocks in New York go forward
AUTUMN = datetime(2027, 11, 6, 12, tzinfo=UTC)
START = datetime(2026, 1, 1)
NEW_YORK = "America/New_York"


def of(
    kind: str, expr: str, after: datetime = SPRING, limit: int = 3, zone: str = NEW_YORK, **options: Any
) -> Preview:
    """The preview of a schedule that began in 2026."""
    start = options.pop("start", START)
    return preview(parse_schedule(kind, expr, zone, start, options), after, limit)


def shown(found: Preview) -> list[tuple[str, tuple[str, ...]]]:
    """Local time and marks of each instant."""
    return [(fire.local.isoformat(timespec="minutes"), fire.marks) for fire in found.instants]


DAILY = [("cron", "30 2 * * *"), ("rrule", "FREQ=DAILY;BYHOUR=2;BYMINUTE=30"), ("once", "2027-03-14T02:30")]


@pytest.mark.parametrize(("kind", "expr"), DAILY)
@pytest.mark.parametrize(("gap", "read"), [("shift", "03:30"), ("next_valid", "03:00")])
def test_an_instant_in_a_gap_names_the_time_that_was_asked_for(
    kind: str, expr: str, gap: str, read: str
) -> None:
    """02:30 does not exist on that day: the instant is marked, and says what it stands for."""
    first = of(kind, expr, gap=gap).instants[0]
    assert first.local.isoformat(timespec="minutes") == f"2027-03-14T{read}-04:00"
    assert first.marks == ("gap", "change_day")
    assert first.asked == (datetime(2027, 3, 14, 2, 30),)
    assert first.note == (
        f"02:30 does not exist and is read as {read}; clocks go forward from 02:00 to 03:00"
    )


def test_a_skipped_wall_time_is_named() -> None:
    """With gap=skip the day has no instant; the wall time that was left out is said."""
    found = of("cron", "30 2 * * *", gap="skip")
    assert shown(found)[0] == ("2027-03-15T02:30-04:00", ())
    (left,) = found.left_out
    assert (left.wall, left.reason, left.at) == (datetime(2027, 3, 14, 2, 30), "gap", None)
    assert left.note == "02:30 does not exist on this day and is skipped"


def test_a_skip_after_the_last_instant_is_named_too() -> None:
    """A schedule that ends in the gap: the list is short, and why is said."""
    found = of("cron", "30 2 * * *", gap="skip", end="2027-03-14")
    assert (found.instants, found.ended) == ((), True)
    assert [left.wall for left in found.left_out] == [datetime(2027, 3, 14, 2, 30)]


def test_two_wall_times_on_one_instant() -> None:
    """02:30 is shifted onto the 03:30 that the rule names anyway: one instant, which says so."""
    found = of("rrule", "FREQ=DAILY;BYHOUR=2,3;BYMINUTE=30")
    assert [fire.local.hour for fire in found.instants] == [3, 2, 3]
    assert found.instants[0].asked == (datetime(2027, 3, 14, 2, 30),)


@pytest.mark.parametrize(
    ("fold", "turns"), [("first", ["first"]), ("second", ["second"]), ("both", ["first", "second"])]
)
def test_an_instant_in_a_fold_says_which_turn_it_is(fold: str, turns: list[str]) -> None:
    """01:30 comes twice on that day; the turn meant is named."""
    found = of("cron", "30 1 * * *", AUTUMN, fold=fold)
    assert [fire.fold for fire in found.instants if fire.fold] == turns
    assert f"01:30 comes twice on this day; this is the {turns[0]}" in found.instants[0].note


def test_elapsed_time_has_no_gap_and_marks_the_move() -> None:
    """An interval goes on by the stopwatch: its wall time moves, which is marked where it happens."""
    found = of("every", "24h", start=datetime(2026, 1, 1, 9), limit=2)
    assert shown(found) == [
        ("2027-03-13T09:00-05:00", ()),
        ("2027-03-14T10:00-04:00", ("change_day", "offset_changed")),
    ]
    later = of("every", "48h", start=datetime(2026, 1, 1, 9), limit=2, after=SPRING).instants[1]
    assert later.marks == ("offset_changed",)
    assert later.note == "the offset is -04:00 from here on"


def test_a_line_for_every_hour_asks_for_nothing_in_the_gap() -> None:
    """It runs by the hours that there are; nothing is shifted or left out."""
    found = of("cron", "30 * * * *", limit=30, gap="skip")
    assert not any(fire.asked for fire in found.instants)
    assert found.left_out == ()


def test_a_day_that_a_zone_skipped() -> None:
    """Apia had no 30 December 2011: the note names dates where clocks alone would mislead."""
    found = of("cron", "0 12 * * *", datetime(2011, 12, 30, 0, tzinfo=UTC), 1, "Pacific/Apia", start=None)
    assert found.instants[0].note == (
        "2011-12-30 12:00 does not exist and is read as 12:00; "
        "clocks go forward from 2011-12-30 00:00 to 2011-12-31 00:00"
    )


def test_added_and_excluded_dates_are_marked() -> None:
    """An extra date is marked unless the rule names it anyway; an excluded one is listed with its instant."""
    found = of(
        "cron", "0 9 * * *", limit=4, rdates=["2027-03-14T11:00", "2027-03-15T09:00"], exdates=["2027-03-16"]
    )
    assert [(fire.local.strftime("%d %H"), fire.added) for fire in found.instants] == [
        ("13 09", False), ("14 09", False), ("14 11", True), ("15 09", False)
    ]  # fmt: skip
    more = of("cron", "0 9 * * *", limit=4, exdates=["2027-03-16", "2027-03-15T09:00"])
    assert [(left.wall.day, left.reason) for left in more.left_out] == [(15, "excluded"), (16, "excluded")]
    assert more.left_out[0].at == datetime(2027, 3, 15, 13, tzinfo=UTC)


def test_an_excluded_date_in_a_gap_is_not_called_skipped() -> None:
    """What is excluded would not have fired on any clock."""
    assert of("cron", "30 2 * * *", gap="skip", exdates=["2027-03-14T02:30"]).left_out == ()
    assert of("cron", "30 2 * * *", exdates=["2027-03-14T02:30"]).instants[0].asked == ()


def test_the_clock_changes_of_a_year_are_shown() -> None:
    """Both days come beside the list, with what each does to the schedule, however far off they are."""
    found = of("cron", "30 2 * * *", datetime(2026, 6, 1, tzinfo=UTC), 1)
    autumn, spring = found.clock_days
    assert str(autumn.change) == "clocks go back from 02:00 to 01:00"
    assert [fire.local.isoformat() for fire in autumn.instants] == ["2026-11-01T02:30:00-05:00"]
    assert [fire.asked for fire in spring.instants] == [(datetime(2027, 3, 14, 2, 30),)]
    skipped = of("cron", "30 2 * * *", datetime(2027, 1, 1, tzinfo=UTC), 1, gap="skip").clock_days[0]
    assert (skipped.instants, len(skipped.left_out)) == ((), 1)


@pytest.mark.parametrize(("kind", "expr"), [("event", "mail.*"), ("manual", "")])
def test_kinds_without_instants(kind: str, expr: str) -> None:
    """An empty list, with words."""
    found = of(kind, expr)
    assert (found.instants, found.left_out, found.clock_days, found.ended) == ((), (), (), True)
    assert found.words


def test_warnings_and_the_zone_of_the_text_are_passed_on() -> None:
    """A cron line's OR is said; a TZID within a rule is the zone that counts."""
    assert "either" in of("cron", "0 9 13 * 5").warnings[0]
    text = "DTSTART;TZID=Europe/Berlin:20260101T023000\nRRULE:FREQ=DAILY"
    found = of("rrule", text, datetime(2027, 3, 27, 12, tzinfo=UTC), 1, start=None)
    assert (found.timezone, found.instants[0].asked) == ("Europe/Berlin", (datetime(2027, 3, 28, 2, 30),))


def test_what_is_left_out_is_bounded() -> None:
    """A minutely schedule with a whole day excluded names no more than so many."""
    found = of("every", "1m", SPRING, 1000, exdates=["2027-03-13"], start=datetime(2026, 1, 1))
    assert len(found.left_out) == MOST_LEFT_OUT


def test_an_end_far_away_is_no_dearer() -> None:
    """A schedule that has ended looks one year on, not to the end of time."""
    found = of("cron", "0 9 1 1 *", datetime(2030, 1, 1, tzinfo=UTC), 1000, end="2031-06-01", gap="skip")
    assert (len(found.instants), found.ended) == (2, True)


@given(
    st.sampled_from(["America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Tehran", "UTC"]),
    st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)),
    st.integers(1, 150),
)
@examples(10)
def test_clock_changes_are_those_that_clocks_make(zone: str, since: datetime, days: int) -> None:
    """Every change lies where the offset differs one second before, and an hourly walk finds no other."""
    after = since.replace(tzinfo=UTC)
    until = after + timedelta(days=days)
    found = list(clock_changes(load_zone(zone), after, until))
    for change in found:
        assert after < change.at <= until
        before = (change.at - timedelta(seconds=1)).astimezone(load_zone(zone)).utcoffset()
        assert (before, change.at.astimezone(load_zone(zone)).utcoffset()) == (change.before, change.after)
    hours = [(after + timedelta(hours=n)).astimezone(load_zone(zone)).utcoffset() for n in range(days * 24)]
    seen = sum(old != new for old, new in pairwise(hours))
    assert seen <= len(found) <= seen + 1


@given(
    st.sampled_from(["30 2 * * *", "0,30 1-3 * * *", "15 0 * * *", "30 2 * * 0"]),
    st.sampled_from(["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo"]),
    st.sampled_from(["shift", "next_valid", "skip"]),
    st.integers(2005, 2030),
)
@examples(10)
def test_every_wall_time_of_a_day_is_accounted_for(line: str, zone: str, gap: str, year: int) -> None:
    """Over a year, each wall time that the line names fires at its time, is read as another, or is left out."""
    after = datetime(year, 1, 1, tzinfo=UTC)
    options = {"gap": gap}
    found = preview(parse_schedule("cron", line, zone, None, options), after, 700)
    plain = preview(parse_schedule("cron", line, "UTC", None, {}), after - timedelta(days=2), 800)
    own = {fire.local.replace(tzinfo=None) for fire in found.instants}
    asked = {wall for fire in found.instants for wall in fire.asked}
    left = {one.wall for one in found.left_out}
    first, last = min(own), max(own)
    named = {fire.local.replace(tzinfo=None) for fire in plain.instants}
    named = {wall for wall in named if first < wall < last}
    assert named <= own | asked | left
    assert not asked & left
    assert not asked & own


@pytest.mark.parametrize(("moment", "told"), [("2027-03-13T06:59", 1), ("2027-03-13T07:01", 0)])
def test_a_once_in_the_past_is_warned_of(moment: str, told: int) -> None:
    """What has passed will not run, and the preview says so beside the empty list."""
    found = of("once", moment)
    assert (len(found.warnings), len(found.instants)) == (told, 1 - told)
    assert all("will not run" in text for text in found.warnings)
