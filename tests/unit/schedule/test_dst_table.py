"""The golden table: every zone that breaks schedulers, under each policy, for each kind that speaks in wall time.

The literals were worked out from each zone's transitions by a program that shares nothing with the engine, and
read by eye; they are what a person who knows that zone's laws would expect to see on the clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise, product

import pytest

from engine.errors import ValidationFailed
from engine.schedule import occurrences
from engine.schedule.zones import load_zone

GAP_POLICIES = ("shift", "next_valid", "skip")
FOLD_POLICIES = ("first", "second", "both")
ALL_POLICIES = [{"gap": gap, "fold": fold} for gap, fold in product(GAP_POLICIES, FOLD_POLICIES)]

# zone, a wall time that does not exist, then what clocks show the day before, under `shift`, under
# `next_valid` and the day after.
GAPS = [
    ("America/Chicago", "2026-03-08T02:30", "07 02:30-0600", "08 03:30-0500", "08 03:00-0500", "09 02:30-0500"),
    ("America/Chicago", "2026-03-08T02:00", "07 02:00-0600", "08 03:00-0500", "08 03:00-0500", "09 02:00-0500"),
    ("America/New_York", "2027-03-14T02:59", "13 02:59-0500", "14 03:59-0400", "14 03:00-0400", "15 02:59-0400"),
    ("Europe/Berlin", "2026-03-29T02:15", "28 02:15+0100", "29 03:15+0200", "29 03:00+0200", "30 02:15+0200"),
    ("Europe/London", "2026-03-29T01:00", "28 01:00+0000", "29 02:00+0100", "29 02:00+0100", "30 01:00+0100"),
    ("Europe/Chisinau", "2026-03-29T03:30", "28 03:30+0200", "29 04:30+0300", "29 04:00+0300", "30 03:30+0300"),
    ("Europe/Chisinau", "2021-03-28T02:30", "27 02:30+0200", "28 03:30+0300", "28 03:00+0300", "29 02:30+0300"),
    ("Australia/Lord_Howe", "2026-10-04T02:10", "03 02:10+1030", "04 02:40+1100", "04 02:30+1100", "05 02:10+1100"),
    ("Pacific/Apia", "2011-12-30T10:00", "29 10:00-1000", "31 10:00+1400", "31 00:00+1400", "31 10:00+1400"),
    ("Pacific/Apia", "2011-09-24T03:20", "23 03:20-1100", "24 04:20-1000", "24 04:00-1000", "25 03:20-1000"),
    ("Africa/Casablanca", "2026-03-22T02:30", "21 02:30+0000", "22 03:30+0100", "22 03:00+0100", "23 02:30+0100"),
    ("America/Sao_Paulo", "2017-10-15T00:00", "14 00:00-0300", "15 01:00-0200", "15 01:00-0200", "16 00:00-0200"),
    ("America/Sao_Paulo", "2018-11-04T00:45", "03 00:45-0300", "04 01:45-0200", "04 01:00-0200", "05 00:45-0200"),
    ("Asia/Tehran", "2021-03-22T00:30", "21 00:30+0330", "22 01:30+0430", "22 01:00+0430", "23 00:30+0430"),
    ("Asia/Tehran", "2022-03-22T00:00", "21 00:00+0330", "22 01:00+0430", "22 01:00+0430", "23 00:00+0430"),
    ("Europe/Dublin", "2026-03-29T01:30", "28 01:30+0000", "29 02:30+0100", "29 02:00+0100", "30 01:30+0100"),
    ("America/Havana", "2026-03-08T00:30", "07 00:30-0500", "08 01:30-0400", "08 01:00-0400", "09 00:30-0400"),
    ("America/St_Johns", "2006-04-02T00:01", "01 00:01-0330", "02 01:01-0230", "02 01:01-0230", "03 00:01-0230"),
    ("Antarctica/Troll", "2026-03-29T01:30", "28 01:30+0000", "29 03:30+0200", "29 03:00+0200", "30 01:30+0200"),
    ("Africa/Cairo", "2026-04-24T00:30", "23 00:30+0200", "24 01:30+0300", "24 01:00+0300", "25 00:30+0300"),
    ("Pacific/Kwajalein", "1993-08-21T12:00", "20 12:00-1200", "22 12:00+1200", "22 00:00+1200", "22 12:00+1200"),
    ("Asia/Pyongyang", "2018-05-04T23:45", "03 23:45+0830", "05 00:15+0900", "05 00:00+0900", "05 23:45+0900"),
    ("America/Caracas", "2016-05-01T02:45", "30 02:45-0430", "01 03:15-0400", "01 03:00-0400", "02 02:45-0400"),
]  # fmt: skip

# zone, a wall time that exists twice, then the day before, its first turn, its second and the day after.
FOLDS = [
    ("America/Chicago", "2026-11-01T01:30", "31 01:30-0500", "01 01:30-0500", "01 01:30-0600", "02 01:30-0600"),
    ("America/Chicago", "2026-11-01T01:00", "31 01:00-0500", "01 01:00-0500", "01 01:00-0600", "02 01:00-0600"),
    ("America/New_York", "2027-11-07T01:59", "06 01:59-0400", "07 01:59-0400", "07 01:59-0500", "08 01:59-0500"),
    ("Europe/Berlin", "2026-10-25T02:45", "24 02:45+0200", "25 02:45+0200", "25 02:45+0100", "26 02:45+0100"),
    ("Europe/London", "2026-10-25T01:00", "24 01:00+0100", "25 01:00+0100", "25 01:00+0000", "26 01:00+0000"),
    ("Europe/Chisinau", "2026-10-25T03:30", "24 03:30+0300", "25 03:30+0300", "25 03:30+0200", "26 03:30+0200"),
    ("Europe/Chisinau", "2021-10-31T02:30", "30 02:30+0300", "31 02:30+0300", "31 02:30+0200", "01 02:30+0200"),
    ("Australia/Lord_Howe", "2026-04-05T01:40", "04 01:40+1100", "05 01:40+1100", "05 01:40+1030", "06 01:40+1030"),
    ("Pacific/Apia", "2012-04-01T03:20", "31 03:20+1400", "01 03:20+1400", "01 03:20+1300", "02 03:20+1300"),
    ("Pacific/Apia", "2021-04-04T03:30", "03 03:30+1400", "04 03:30+1400", "04 03:30+1300", "05 03:30+1300"),
    ("Africa/Casablanca", "2026-02-15T02:30", "14 02:30+0100", "15 02:30+0100", "15 02:30+0000", "16 02:30+0000"),
    ("America/Sao_Paulo", "2018-02-17T23:15", "16 23:15-0200", "17 23:15-0200", "17 23:15-0300", "18 23:15-0300"),
    ("Asia/Tehran", "2021-09-21T23:00", "20 23:00+0430", "21 23:00+0430", "21 23:00+0330", "22 23:00+0330"),
    ("Asia/Tehran", "2022-09-21T23:59", "20 23:59+0430", "21 23:59+0430", "21 23:59+0330", "22 23:59+0330"),
    ("Europe/Dublin", "2026-10-25T01:30", "24 01:30+0100", "25 01:30+0100", "25 01:30+0000", "26 01:30+0000"),
    ("Antarctica/Troll", "2026-10-25T01:30", "24 01:30+0200", "25 01:30+0200", "25 01:30+0000", "26 01:30+0000"),
]  # fmt: skip

# zone, a wall time beside a transition that exists once whatever the policy, and the three days.
CALM = [
    ("America/New_York", "2027-11-07T02:00", "06 02:00-0400", "07 02:00-0500", "08 02:00-0500"),
    ("Europe/Chisinau", "2026-03-29T02:30", "28 02:30+0200", "29 02:30+0200", "30 02:30+0300"),
    ("Europe/Chisinau", "2026-10-25T02:30", "24 02:30+0300", "25 02:30+0300", "26 02:30+0200"),
    ("Europe/Chisinau", "2021-03-28T03:30", "27 03:30+0200", "28 03:30+0300", "29 03:30+0300"),
    ("Europe/Chisinau", "2021-10-31T03:30", "30 03:30+0300", "31 03:30+0200", "01 03:30+0200"),
    ("UTC", "2026-03-29T02:30", "28 02:30+0000", "29 02:30+0000", "30 02:30+0000"),
]  # fmt: skip

# zone, the wall time of the start, and what clocks show each hour of elapsed time from there on.
HOURS = [
    ("America/Chicago", "2026-03-08T00:00",
     "08 00:00-0600, 08 01:00-0600, 08 03:00-0500, 08 04:00-0500, 08 05:00-0500"),
    ("America/New_York", "2027-11-07T00:00",
     "07 00:00-0400, 07 01:00-0400, 07 01:00-0500, 07 02:00-0500, 07 03:00-0500"),
    ("Europe/Berlin", "2026-03-29T00:00",
     "29 00:00+0100, 29 01:00+0100, 29 03:00+0200, 29 04:00+0200, 29 05:00+0200"),
    ("Europe/London", "2026-10-25T00:00",
     "25 00:00+0100, 25 01:00+0100, 25 01:00+0000, 25 02:00+0000, 25 03:00+0000"),
    ("Europe/Chisinau", "2026-10-25T02:00",
     "25 02:00+0300, 25 03:00+0300, 25 03:00+0200, 25 04:00+0200, 25 05:00+0200"),
    ("Europe/Chisinau", "2021-03-28T00:00",
     "28 00:00+0200, 28 01:00+0200, 28 03:00+0300, 28 04:00+0300, 28 05:00+0300"),
    ("Australia/Lord_Howe", "2026-10-04T00:00",
     "04 00:00+1030, 04 01:00+1030, 04 02:30+1100, 04 03:30+1100, 04 04:30+1100"),
    ("Australia/Lord_Howe", "2026-04-05T00:00",
     "05 00:00+1100, 05 01:00+1100, 05 01:30+1030, 05 02:30+1030, 05 03:30+1030"),
    ("Pacific/Apia", "2011-12-29T22:00",
     "29 22:00-1000, 29 23:00-1000, 31 00:00+1400, 31 01:00+1400, 31 02:00+1400"),
    ("Pacific/Apia", "2012-04-01T02:00",
     "01 02:00+1400, 01 03:00+1400, 01 03:00+1300, 01 04:00+1300, 01 05:00+1300"),
    ("Africa/Casablanca", "2026-02-15T01:00",
     "15 01:00+0100, 15 02:00+0100, 15 02:00+0000, 15 03:00+0000, 15 04:00+0000"),
    ("Africa/Casablanca", "2026-03-22T00:00",
     "22 00:00+0000, 22 01:00+0000, 22 03:00+0100, 22 04:00+0100, 22 05:00+0100"),
    ("America/Sao_Paulo", "2018-02-17T22:00",
     "17 22:00-0200, 17 23:00-0200, 17 23:00-0300, 18 00:00-0300, 18 01:00-0300"),
    ("America/Sao_Paulo", "2017-10-14T22:00",
     "14 22:00-0300, 14 23:00-0300, 15 01:00-0200, 15 02:00-0200, 15 03:00-0200"),
    ("Asia/Tehran", "2021-03-21T22:00",
     "21 22:00+0330, 21 23:00+0330, 22 01:00+0430, 22 02:00+0430, 22 03:00+0430"),
    ("Asia/Tehran", "2022-09-21T22:00",
     "21 22:00+0430, 21 23:00+0430, 21 23:00+0330, 22 00:00+0330, 22 01:00+0330"),
    ("Antarctica/Troll", "2026-03-28T23:00",
     "28 23:00+0000, 29 00:00+0000, 29 03:00+0200, 29 04:00+0200, 29 05:00+0200"),
]  # fmt: skip


def schedules_at(wall: datetime, zone: str) -> list[tuple[str, str, str, datetime | None]]:
    """The same daily time of day in every form: kind, text, zone of the schedule, start the day before."""
    eve = wall - timedelta(days=1)
    midnight = eve.replace(hour=0, minute=0)
    at = f"BYHOUR={wall.hour};BYMINUTE={wall.minute};BYSECOND=0"
    every_day_of_month = ",".join(map(str, range(1, 32)))
    lines = f"DTSTART;TZID={zone}:{eve:%Y%m%dT%H%M%S}\nRRULE:FREQ=DAILY"
    return [
        ("rrule", "FREQ=DAILY", zone, eve),
        ("rrule", f"FREQ=DAILY;{at}", zone, midnight),
        ("rrule", f"FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;{at}", zone, midnight),
        ("rrule", f"FREQ=MONTHLY;BYMONTHDAY={every_day_of_month};{at}", zone, midnight),
        ("rrule", f"FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;{at}", zone, midnight),
        ("rrule", lines, "UTC", None),
        ("cron", f"{wall.minute} {wall.hour} * * *", zone, midnight),
    ]


def shown(instants: list[datetime], zone: str) -> list[str]:
    """Instants as day of month, time and offset in `zone`."""
    tz = load_zone(zone)
    return [instant.astimezone(tz).strftime("%d %H:%M%z") for instant in instants]


def assert_days(zone: str, text: str, policy: dict[str, str], expected: list[str]) -> None:
    """Every form of the daily schedule gives `expected` and nothing between, walked and sought."""
    for kind, expr, tz, start in schedules_at(datetime.fromisoformat(text), zone):
        found = occurrences(kind, expr, tz, start, None, len(expected), **policy)
        assert shown(found, zone) == expected, (kind, expr)
        sought = occurrences(kind, expr, tz, start, None, 1, **policy)
        while len(sought) < len(expected):
            sought += occurrences(kind, expr, tz, start, sought[-1], 1, **policy)
        assert sought == found, (kind, expr)


@pytest.mark.parametrize(("zone", "wall", "before", "shifted", "valid", "after"), GAPS)
def test_gap(zone: str, wall: str, before: str, shifted: str, valid: str, after: str) -> None:
    """A daily time that a day lacks is read as the gap policy says, whatever the fold policy."""
    middle = {"shift": [shifted], "next_valid": [valid], "skip": []}
    for policy in ALL_POLICIES:
        # Where a whole day is skipped, its shifted time is the next day's own: one occurrence.
        expected = list(dict.fromkeys([before, *middle[policy["gap"]], after]))
        assert_days(zone, wall, policy, expected)


@pytest.mark.parametrize(("zone", "wall", "before", "first", "second", "after"), FOLDS)
def test_fold(zone: str, wall: str, before: str, first: str, second: str, after: str) -> None:
    """A daily time that a day has twice is read as the fold policy says, whatever the gap policy."""
    middle = {"first": [first], "second": [second], "both": [first, second]}
    for policy in ALL_POLICIES:
        assert_days(zone, wall, policy, [before, *middle[policy["fold"]], after])


@pytest.mark.parametrize(("zone", "wall", "before", "same", "after"), CALM)
def test_no_policy_touches_other_times(zone: str, wall: str, before: str, same: str, after: str) -> None:
    """A time that exists once is that time under all nine policies."""
    for policy in ALL_POLICIES:
        assert_days(zone, wall, policy, [before, same, after])


@pytest.mark.parametrize("row", GAPS)
def test_once_in_a_gap(row: tuple[str, ...]) -> None:
    """A single local moment that does not exist is shifted, moved to the gap's end, or refused as never."""
    zone, wall, _, shifted, valid, _ = row
    for gap, expected in (("shift", shifted), ("next_valid", valid)):
        assert shown(occurrences("once", wall, zone, None, None, 9, gap=gap), zone) == [expected]
    with pytest.raises(ValidationFailed, match="never fires"):
        occurrences("once", wall, zone, None, None, 9, gap="skip")


@pytest.mark.parametrize("row", FOLDS)
def test_once_in_a_fold(row: tuple[str, ...]) -> None:
    """A single local moment that exists twice fires at its first turn, its second, or both."""
    zone, wall, _, first, second, _ = row
    for fold, expected in (("first", [first]), ("second", [second]), ("both", [first, second])):
        assert shown(occurrences("once", wall, zone, None, None, 9, fold=fold), zone) == expected


@pytest.mark.parametrize("policy", ALL_POLICIES, ids=str)
@pytest.mark.parametrize(("zone", "start", "expected"), HOURS)
def test_elapsed_hours(zone: str, start: str, expected: str, policy: dict[str, str]) -> None:
    """What counts hours, minutes or seconds fires after each real hour, under every policy alike."""
    forms = [
        ("rrule", "FREQ=HOURLY"),
        ("rrule", "FREQ=MINUTELY;INTERVAL=60"),
        ("rrule", "FREQ=SECONDLY;INTERVAL=3600"),
        ("every", "1h"),
        ("every", "PT60M"),
        ("condition", "3600s"),
    ]
    for kind, expr in forms:
        found = occurrences(kind, expr, zone, datetime.fromisoformat(start), None, 5, **policy)
        assert ", ".join(shown(found, zone)) == expected, (kind, expr)


@pytest.mark.parametrize(("zone", "start", "expected"), HOURS)
def test_minutes_of_each_hour(zone: str, start: str, expected: str) -> None:
    """Every five minutes is every five minutes of elapsed time across a transition: 288 steps in 24 hours."""
    begin = datetime.fromisoformat(start)
    for kind, expr in (("rrule", "FREQ=MINUTELY;INTERVAL=5"), ("every", "5m"), ("cron", "*/5 * * * *")):
        found = occurrences(kind, expr, zone, begin, None, 289)
        steps = {later - earlier for earlier, later in pairwise(found)}
        assert steps == {timedelta(minutes=5)}, kind
        assert shown(found[:1], zone) == expected.split(", ")[:1], kind


@pytest.mark.parametrize("fold", FOLD_POLICIES)
@pytest.mark.parametrize(
    ("until", "last"), [("011500", "31"), ("012959", "31"), ("013000", "01"), ("020000", "01")]
)
def test_a_local_until_is_compared_on_the_wall(fold: str, until: str, last: str) -> None:
    """01:30 is later than an UNTIL of 01:15, although 01:15 comes once more an hour after it."""
    rule, start = f"FREQ=DAILY;UNTIL=20261101T{until}", datetime(2026, 10, 30, 1, 30)
    found = occurrences("rrule", rule, "America/New_York", start, None, 9, fold=fold)
    assert shown(found, "America/New_York")[-1][:2] == last


@pytest.mark.parametrize("gap", GAP_POLICIES)
def test_count_counts_wall_times(gap: str) -> None:
    """COUNT is used up by wall times: erratum 4271 counts the shifted one, and so does `skip`."""
    found = occurrences(
        "rrule", "FREQ=DAILY;COUNT=3", "America/New_York", datetime(2026, 3, 7, 2, 30), None, 9, gap=gap
    )
    middle = {"shift": ["08 03:30-0400"], "next_valid": ["08 03:00-0400"], "skip": []}[gap]
    assert shown(found, "America/New_York") == ["07 02:30-0500", *middle, "09 02:30-0400"]


def test_count_with_both_turns() -> None:
    """Under `both` one wall time of the three fires twice."""
    start = datetime(2026, 10, 31, 1, 30)
    found = occurrences("rrule", "FREQ=DAILY;COUNT=3", "America/New_York", start, None, 9, fold="both")
    assert shown(found, "America/New_York") == [
        "31 01:30-0400",
        "01 01:30-0400",
        "01 01:30-0500",
        "02 01:30-0500",
    ]


def test_a_start_in_the_gap() -> None:
    """A DTSTART that no clock shows is read by the policy; the days after keep its wall time."""
    start, zone = datetime(2026, 3, 8, 2, 30), "America/New_York"
    firsts = {"shift": "08 03:30-0400", "next_valid": "08 03:00-0400", "skip": "09 02:30-0400"}
    for gap, first in firsts.items():
        found = shown(occurrences("rrule", "FREQ=DAILY", zone, start, None, 3, gap=gap), zone)
        assert found[0] == first
        assert found[1][3:] == "02:30-0400"
    assert shown(occurrences("every", "1h", zone, start, None, 2), zone) == ["08 03:30-0400", "08 04:30-0400"]


def test_a_start_in_the_fold() -> None:
    """A naive DTSTART that comes twice is read by the policy; an aware one is the instant that it is."""
    zone, naive = "America/New_York", datetime(2026, 11, 1, 1, 30)
    for fold, first in (("first", "01 01:30-0400"), ("second", "01 01:30-0500"), ("both", "01 01:30-0400")):
        for kind, expr in (("rrule", "FREQ=DAILY"), ("rrule", "FREQ=HOURLY"), ("every", "1h")):
            assert shown(occurrences(kind, expr, zone, naive, None, 1, fold=fold), zone) == [first], (
                kind,
                fold,
            )
    later = naive.replace(fold=1, tzinfo=load_zone(zone))
    assert shown(occurrences("every", "1h", zone, later, None, 2), zone) == ["01 01:30-0500", "01 02:30-0500"]
    # The day's 01:30 fired at its first turn, before this start.
    assert shown(occurrences("rrule", "FREQ=DAILY", zone, later, None, 1), zone) == ["02 01:30-0500"]
