"""Daylight saving: a golden table of gaps and folds, each policy, in the zones that break schedulers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from engine.schedule import occurrences, parse_schedule
from engine.schedule.zones import load_zone

# zone, wall time (HH:MM) of a daily job, first day asked for, policy -> local times with offset, three days.
# The transitions are stated by the tz database: each zone's own comment says what its government did.
GOLDEN: list[tuple[str, str, str, dict[str, str], list[str]]] = [
    # Spring: the wall time does not exist on the second day.
    ("America/Chicago", "02:30", "2026-03-07", {}, ["07 02:30-0600", "08 03:30-0500", "09 02:30-0500"]),
    ("America/Chicago", "02:30", "2026-03-07", {"gap": "next_valid"},
     ["07 02:30-0600", "08 03:00-0500", "09 02:30-0500"]),
    ("America/Chicago", "02:30", "2026-03-07", {"gap": "skip"},
     ["07 02:30-0600", "09 02:30-0500", "10 02:30-0500"]),
    ("America/New_York", "02:00", "2026-03-07", {}, ["07 02:00-0500", "08 03:00-0400", "09 02:00-0400"]),
    ("Europe/Berlin", "02:59", "2026-03-28", {}, ["28 02:59+0100", "29 03:59+0200", "30 02:59+0200"]),
    ("Europe/London", "01:15", "2026-03-28", {}, ["28 01:15+0000", "29 02:15+0100", "30 01:15+0100"]),
    ("Europe/Chisinau", "03:30", "2026-03-28", {}, ["28 03:30+0200", "29 04:30+0300", "30 03:30+0300"]),
    # Half an hour only: 02:15 becomes 02:45.
    ("Australia/Lord_Howe", "02:15", "2026-10-03", {}, ["03 02:15+1030", "04 02:45+1100", "05 02:15+1100"]),
    ("Australia/Lord_Howe", "02:15", "2026-10-03", {"gap": "next_valid"},
     ["03 02:15+1030", "04 02:30+1100", "05 02:15+1100"]),
    # Midnight itself is skipped.
    ("America/Sao_Paulo", "00:30", "2018-11-03", {}, ["03 00:30-0300", "04 01:30-0200", "05 00:30-0200"]),
    ("America/Sao_Paulo", "00:00", "2018-11-03", {"gap": "next_valid"},
     ["03 00:00-0300", "04 01:00-0200", "05 00:00-0200"]),
    ("Asia/Tehran", "00:10", "2022-03-21", {}, ["21 00:10+0330", "22 01:10+0430", "23 00:10+0430"]),
    # A whole day is skipped; read with the offset before, 30 December is 31 December, and fires once.
    ("Pacific/Apia", "09:00", "2011-12-29", {}, ["29 09:00-1000", "31 09:00+1400", "01 09:00+1400"]),
    ("Pacific/Apia", "09:00", "2011-12-29", {"gap": "next_valid"},
     ["29 09:00-1000", "31 00:00+1400", "31 09:00+1400"]),
    ("Pacific/Apia", "09:00", "2011-12-29", {"gap": "skip"},
     ["29 09:00-1000", "31 09:00+1400", "01 09:00+1400"]),
    # Ramadan: clocks go back when it begins and forward when it ends.
    ("Africa/Casablanca", "02:30", "2025-04-05", {}, ["05 02:30+0000", "06 03:30+0100", "07 02:30+0100"]),
    ("Africa/Casablanca", "02:30", "2025-02-22", {}, ["22 02:30+0100", "23 02:30+0100", "24 02:30+0000"]),
    ("Africa/Casablanca", "02:30", "2025-02-22", {"fold": "second"},
     ["22 02:30+0100", "23 02:30+0000", "24 02:30+0000"]),
    # Autumn: the wall time exists twice on the second day.
    ("America/Chicago", "01:30", "2026-10-31", {}, ["31 01:30-0500", "01 01:30-0500", "02 01:30-0600"]),
    ("America/Chicago", "01:30", "2026-10-31", {"fold": "second"},
     ["31 01:30-0500", "01 01:30-0600", "02 01:30-0600"]),
    ("America/Chicago", "01:30", "2026-10-31", {"fold": "both"},
     ["31 01:30-0500", "01 01:30-0500", "01 01:30-0600"]),
    ("America/New_York", "09:00", "2026-10-31", {"fold": "both"},
     ["31 09:00-0400", "01 09:00-0500", "02 09:00-0500"]),
    ("Europe/Berlin", "02:30", "2026-10-24", {}, ["24 02:30+0200", "25 02:30+0200", "26 02:30+0100"]),
    ("Europe/London", "01:30", "2026-10-24", {"fold": "both"},
     ["24 01:30+0100", "25 01:30+0100", "25 01:30+0000"]),
    ("Europe/Chisinau", "03:30", "2026-10-24", {"fold": "second"},
     ["24 03:30+0300", "25 03:30+0200", "26 03:30+0200"]),
    ("Australia/Lord_Howe", "01:45", "2026-04-04", {"fold": "both"},
     ["04 01:45+1100", "05 01:45+1100", "05 01:45+1030"]),
    ("America/Sao_Paulo", "23:30", "2018-02-16", {"fold": "both"},
     ["16 23:30-0200", "17 23:30-0200", "17 23:30-0300"]),
    ("Asia/Tehran", "23:30", "2022-09-20", {"fold": "second"},
     ["20 23:30+0430", "21 23:30+0330", "22 23:30+0330"]),
    ("UTC", "02:30", "2026-03-28", {"gap": "skip", "fold": "both"},
     ["28 02:30+0000", "29 02:30+0000", "30 02:30+0000"]),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["rrule", "cron"])
@pytest.mark.parametrize(
    ("zone", "at", "day", "policy", "expected"), GOLDEN, ids=[f"{g[0]}-{g[1]}-{g[2]}-{g[3]}" for g in GOLDEN]
)
def test_golden(kind: str, zone: str, at: str, day: str, policy: dict[str, str], expected: list[str]) -> None:
    """A daily job fires at the stated local times, whether an RRULE or a cron line states it."""
    hour, minute = (int(part) for part in at.split(":"))
    expr = f"FREQ=DAILY;BYHOUR={hour};BYMINUTE={minute}" if kind == "rrule" else f"{minute} {hour} * * *"
    found = occurrences(kind, expr, zone, datetime.fromisoformat(f"{day}T00:00"), None, 3, **policy)
    assert local(found, zone) == expected


@pytest.mark.parametrize(("zone", "at", "day", "policy", "expected"), GOLDEN)
def test_seeking_within_a_transition(
    zone: str, at: str, day: str, policy: dict[str, str], expected: list[str]
) -> None:
    """Asked from every quarter of an hour around the transition, the next instant is always the right one."""
    hour, minute = (int(part) for part in at.split(":"))
    start = datetime.fromisoformat(f"{day}T00:00")
    schedule = parse_schedule("cron", f"{minute} {hour} * * *", zone, start, policy)
    walked = schedule.next(None, 6)
    after = walked[0] - timedelta(hours=3)
    while after < walked[-2]:
        assert schedule.next(after) == [next(at for at in walked if at > after)], after
        after += timedelta(minutes=15)


@pytest.mark.parametrize(
    ("kind", "expr"),
    [
        ("rrule", "FREQ=HOURLY"),
        ("every", "1h"),
        ("cron", "0 * * * *"),
        ("rrule", "FREQ=MINUTELY;INTERVAL=60"),
    ],
)
@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Africa/Casablanca", "UTC"])
def test_sub_daily_runs_in_elapsed_time(kind: str, expr: str, zone: str) -> None:
    """Every real hour of two years has exactly one occurrence: none lost, none doubled."""
    found = occurrences(kind, expr, zone, datetime(2025, 1, 1), None, 2 * 365 * 24)
    steps = {later - earlier for earlier, later in pairwise(found)}
    assert steps == {timedelta(hours=1)}


def test_hourly_cron_at_half_past_over_a_half_hour_shift() -> None:
    """Lord Howe moves by half an hour: minute 0 of each hour of the clock fires, the skipped one shifted."""
    spring = occurrences("cron", "0 * * * *", "Australia/Lord_Howe", datetime(2026, 10, 4), None, 4)
    assert local(spring, "Australia/Lord_Howe") == [
        "04 00:00+1030", "04 01:00+1030", "04 02:30+1100", "04 03:00+1100",
    ]  # fmt: skip
    autumn = occurrences("cron", "45 * * * *", "Australia/Lord_Howe", datetime(2026, 4, 5), None, 4)
    assert local(autumn, "Australia/Lord_Howe") == [
        "05 00:45+1100", "05 01:45+1100", "05 01:45+1030", "05 02:45+1030",
    ]  # fmt: skip


def test_both_passes_of_an_hour_are_filtered_by_the_local_clock() -> None:
    """A sub-daily rule limited to one o'clock fires in both of autumn's one o'clock hours, in order."""
    rule = "FREQ=MINUTELY;INTERVAL=30;BYHOUR=1"
    found = occurrences("rrule", rule, "America/New_York", datetime(2026, 10, 31), None, 6)
    assert local(found, "America/New_York") == [
        "31 01:00-0400", "31 01:30-0400", "01 01:00-0400", "01 01:30-0400", "01 01:00-0500", "01 01:30-0500",
    ]  # fmt: skip


def test_shifted_and_real_wall_time_share_an_instant_once() -> None:
    """02:30 shifted to 03:30 meets a real 03:30: one occurrence; and 03:00 comes before the shifted 02:30."""
    rule = "FREQ=DAILY;BYHOUR=2,3;BYMINUTE=0,30"
    found = occurrences("rrule", rule, "America/New_York", datetime(2026, 3, 8), None, 4)
    assert local(found, "America/New_York") == [
        "08 03:00-0400", "08 03:30-0400", "09 02:00-0400", "09 02:30-0400",
    ]  # fmt: skip


def test_nonexistent_time_counts_towards_count() -> None:
    """RFC 5545 erratum 4271: a nonexistent local time is shifted and counts; 30 February is ignored."""
    daily = occurrences(
        "rrule", "FREQ=DAILY;COUNT=3", "America/New_York", datetime(2026, 3, 7, 2, 30), None, 9
    )
    assert local(daily, "America/New_York") == ["07 02:30-0500", "08 03:30-0400", "09 02:30-0400"]
    monthly = occurrences("rrule", "FREQ=MONTHLY;COUNT=3", "UTC", datetime(2026, 1, 30), None, 9)
    assert [instant.month for instant in monthly] == [1, 3, 4]


@pytest.mark.parametrize("fold", ["first", "second"])
def test_once_in_a_fold(fold: str) -> None:
    """A single local moment that exists twice is read by the fold policy; one with an offset is not."""
    offset = {"first": 4, "second": 5}[fold]
    local_once = occurrences("once", "2026-11-01T01:30", "America/New_York", None, None, 5, fold=fold)
    assert local_once == [datetime(2026, 11, 1, 1 + offset, 30, tzinfo=UTC)]
    fixed = occurrences("once", "2026-11-01T01:30-05:00", "America/New_York", None, None, 5, fold=fold)
    assert fixed == [datetime(2026, 11, 1, 6, 30, tzinfo=UTC)]


def local(instants: list[datetime], zone: str) -> list[str]:
    """Instants as day of month, time and offset in `zone`."""
    tz: Any = load_zone(zone)
    return [instant.astimezone(tz).strftime("%d %H:%M%z") for instant in instants]


def test_a_local_until_is_held_against_wall_times() -> None:
    """23:00 of the day that Apia skipped fires a day later, after the instant of an UNTIL at the midnight between."""
    rule, start = "FREQ=DAILY;UNTIL=20111231T000000", datetime(2011, 12, 30, 23, 0)
    assert occurrences("rrule", rule, "Pacific/Apia", start, None, 3) == [
        datetime(2011, 12, 31, 9, tzinfo=UTC)
    ]
