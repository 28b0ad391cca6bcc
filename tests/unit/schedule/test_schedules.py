"""What schedules do beyond one rule: kinds, options, iCalendar text and jitter."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from engine.schedule import (
    default_start,
    jitter_offset,
    occurrences,
    parse_schedule,
    restore_schedule,
    tzdata_version,
)
from engine.schedule.dst import DstPolicy
from engine.schedule.zones import load_zone

START = datetime(2026, 1, 1, 9)


def walls(kind: str, expr: str, limit: int = 5, **options: Any) -> list[str]:
    """The first instants from START, in UTC, without the year's first digits."""
    found = occurrences(kind, expr, "UTC", START, None, limit, **options)
    return [instant.strftime("%y-%m-%d %H:%M") for instant in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("30 8 * * 1-5", ["26-01-02 08:30", "26-01-05 08:30"]),
        ("0 9 * * 1", ["26-01-05 09:00", "26-01-12 09:00"]),
        ("0 0 * * 0", ["26-01-04 00:00", "26-01-11 00:00"]),
        ("0 0 * * 7", ["26-01-04 00:00", "26-01-11 00:00"]),
        ("0 0 * * SAT-SUN", ["26-01-03 00:00", "26-01-04 00:00"]),
        ("0 0 * * 5-7", ["26-01-02 00:00", "26-01-03 00:00"]),
        ("0 0 L * *", ["26-01-31 00:00", "26-02-28 00:00"]),
        ("0 0 L-1,1 * *", ["26-01-30 00:00", "26-02-01 00:00"]),
        ("0 0 * * 5L", ["26-01-30 00:00", "26-02-27 00:00"]),
        ("0 0 * * MON#2", ["26-01-12 00:00", "26-02-09 00:00"]),
        ("0 0 13 * FRI", ["26-01-02 00:00", "26-01-09 00:00", "26-01-13 00:00"]),
        ("0 0 */13 * FRI", ["26-02-27 00:00", "26-03-27 00:00"]),
        ("0 12 29 feb *", ["28-02-29 12:00", "32-02-29 12:00"]),
        ("5/20 9 * * *", ["26-01-01 09:05", "26-01-01 09:25", "26-01-01 09:45"]),
        ("1-10/4 9 * * *", ["26-01-01 09:01", "26-01-01 09:05", "26-01-01 09:09"]),
        ("@hourly", ["26-01-01 09:00", "26-01-01 10:00"]),
        ("@Daily", ["26-01-02 00:00", "26-01-03 00:00"]),
        ("@weekly", ["26-01-04 00:00"]),
        ("@monthly", ["26-02-01 00:00"]),
        ("@yearly", ["27-01-01 00:00"]),
    ],
)
def test_cron_lines(line: str, expected: list[str]) -> None:
    """Each cron form fires on the days that crontab(5) says."""
    assert walls("cron", line, len(expected)) == expected


def test_cron_warns_of_or() -> None:
    """Two restricted day fields are joined by OR, and the schedule says so; a star is not restricted."""
    assert "either" in parse_schedule("cron", "0 0 13 * FRI", "UTC", START, {}).warnings[0]
    assert parse_schedule("cron", "0 0 */13 * FRI", "UTC", START, {}).warnings == ()


@pytest.mark.parametrize(
    ("kind", "expr", "expected"),
    [
        ("every", "15m", ["26-01-01 09:00", "26-01-01 09:15"]),
        ("condition", "PT1H", ["26-01-01 09:00", "26-01-01 10:00"]),
        ("once", "2026-03-01T10:00:00", ["26-03-01 10:00"]),
        ("once", "2026-03-01T10:00:00+02:00", ["26-03-01 08:00"]),
        ("once", "2020-03-01T10:00:00Z", ["20-03-01 10:00"]),
        ("event", "email.*", []),
        ("manual", "", []),
        ("rrule", "RRULE:FREQ=DAILY;BYHOUR=8", ["26-01-02 08:00", "26-01-03 08:00"]),
        ("rrule", "freq=daily;byhour=8", ["26-01-02 08:00", "26-01-03 08:00"]),
        ("rrule", "FREQ=MONTHLY;BYDAY=3MO,WE,FR", ["26-01-02 09:00", "26-01-07 09:00", "26-01-09 09:00"]),
        ("rrule", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1", ["26-01-01 09:00", "26-02-02 09:00"]),
        ("rrule", "FREQ=DAILY;BYSECOND=60;COUNT=1", ["26-01-01 09:00"]),
        ("rrule", "FREQ=HOURLY;BYMINUTE=0,30;BYSETPOS=-1", ["26-01-01 09:30", "26-01-01 10:30"]),
        ("rrule", "FREQ=WEEKLY;COUNT=3;BYDAY=TH,MO", ["26-01-01 09:00", "26-01-05 09:00", "26-01-08 09:00"]),
        ("rrule", "FREQ=DAILY;UNTIL=20260102", ["26-01-01 09:00", "26-01-02 09:00"]),
        ("rrule", "FREQ=DAILY;UNTIL=20260102T090000", ["26-01-01 09:00", "26-01-02 09:00"]),
        ("rrule", "FREQ=DAILY;UNTIL=20260102T085959Z", ["26-01-01 09:00"]),
    ],
)
def test_kinds(kind: str, expr: str, expected: list[str]) -> None:
    """Every kind answers, in each form that its text may have."""
    found = walls(kind, expr, 5)
    assert found[: len(expected)] == expected
    assert len(found) in (len(expected), 5)


CONTENT = [
    ("DTSTART;TZID=Europe/Berlin:20260701T090000\nRRULE:FREQ=DAILY;COUNT=2", ["26-07-01 07:00", "26-07-02 07:00"]),
    ("DTSTART:20260701T090000Z\r\nRRULE:FREQ=DAILY;\r\n COUNT=2", ["26-07-01 09:00", "26-07-02 09:00"]),
    ("DTSTART;VALUE=DATE:20260701\nRRULE:FREQ=WEEKLY;UNTIL=20260708", ["26-07-01 00:00", "26-07-08 00:00"]),
    ("DTSTART:20260701T090000\nRDATE:20260703T100000,20260702T100000",
     ["26-07-01 09:00", "26-07-02 10:00", "26-07-03 10:00"]),
    ("RRULE:FREQ=DAILY;COUNT=1\nRDATE;TZID=America/New_York:20260702T090000", ["26-01-01 09:00", "26-07-02 13:00"]),
    ("RRULE:FREQ=DAILY;COUNT=1\nRDATE;VALUE=PERIOD:20260702T090000Z/PT1H", ["26-01-01 09:00", "26-07-02 09:00"]),
    ("RRULE:FREQ=DAILY;COUNT=1;BYHOUR=8\nRDATE;VALUE=DATE:20260702", ["26-01-02 08:00", "26-07-02 08:00"]),
    ("RRULE:FREQ=DAILY;COUNT=3\nEXDATE:20260102T090000", ["26-01-01 09:00", "26-01-03 09:00"]),
    ("RRULE:FREQ=DAILY;COUNT=3\nEXDATE;VALUE=DATE:20260101", ["26-01-02 09:00", "26-01-03 09:00"]),
    ("RRULE:FREQ=DAILY;COUNT=4\nEXRULE:FREQ=DAILY;INTERVAL=2", ["26-01-02 09:00", "26-01-04 09:00"]),
    ("RRULE:FREQ=DAILY;COUNT=2\nRRULE:FREQ=DAILY;INTERVAL=2;COUNT=2",
     ["26-01-01 09:00", "26-01-02 09:00", "26-01-03 09:00"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CONTENT)
def test_icalendar_text(text: str, expected: list[str]) -> None:
    """DTSTART, RDATE, EXDATE, EXRULE, folding, TZID and VALUE mean what RFC 5545 says."""
    assert walls("rrule", text, 9) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"exdates": ["2026-01-02"]}, ["26-01-01 09:00", "26-01-03 09:00", "26-01-04 09:00"]),
        ({"exdates": [date(2026, 1, 1), "2026-01-03T09:00:00"]}, ["26-01-02 09:00", "26-01-04 09:00"]),
        ({"exdates": ["2026-01-01T10:00:00+01:00"]}, ["26-01-02 09:00", "26-01-03 09:00", "26-01-04 09:00"]),
        ({"rdates": ["2026-01-01T12:00:00"]}, ["26-01-01 09:00", "26-01-01 12:00", "26-01-02 09:00"]),
        ({"end": "2026-01-02"}, ["26-01-01 09:00", "26-01-02 09:00"]),
        ({"end": datetime(2026, 1, 2, 9, tzinfo=UTC)}, ["26-01-01 09:00", "26-01-02 09:00"]),
        ({"jitter": "30s"}, ["26-01-01 09:00", "26-01-02 09:00"]),
    ],
)
@pytest.mark.parametrize(("kind", "expr"), [("rrule", "FREQ=DAILY"), ("cron", "0 9 * * *"), ("every", "1d")])
def test_options(kind: str, expr: str, options: dict[str, Any], expected: list[str]) -> None:
    """Options mean the same for every kind."""
    found = walls(kind, expr, 3, **options)
    assert found[: len(expected)] == expected
    assert ("end" in options) == (len(found) < 3)


def test_a_date_added_to_a_rule_is_taken_at_its_times() -> None:
    """A date without a time is a day on which the schedule fires as on any other."""
    found = walls("cron", "0,30 8 * * 1", 4, rdates=["2026-01-03"])
    assert found == ["26-01-03 08:00", "26-01-03 08:30", "26-01-05 08:00", "26-01-05 08:30"]


def test_without_a_start_the_epoch_is_the_anchor() -> None:
    """`every` and rules without a start count from 1970-01-01T00:00 in the zone."""
    after = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert occurrences("every", "15m", "UTC", None, after, 1) == [datetime(2026, 1, 1, 0, 15, tzinfo=UTC)]
    assert occurrences("rrule", "FREQ=DAILY", "Europe/Berlin", None, after, 1) == [
        datetime(2026, 1, 1, 23, tzinfo=UTC)
    ]


def test_an_aware_start_is_an_instant() -> None:
    """A start with an offset is read on the wall of the schedule's zone."""
    start = datetime(2026, 6, 30, 22, 30, tzinfo=UTC)
    found = occurrences("rrule", "FREQ=MONTHLY", "Europe/Berlin", start, None, 2)
    assert found == [datetime(2026, 6, 30, 22, 30, tzinfo=UTC), datetime(2026, 7, 31, 22, 30, tzinfo=UTC)]


def test_a_schedule_is_a_value() -> None:
    """Parsed and restored schedules of the same definition are equal; the policy survives pickling."""
    arguments = ("cron", "@daily", "Europe/Chisinau", START, {"gap": "skip"})
    assert parse_schedule(*arguments) == restore_schedule(*arguments)
    assert pickle.loads(pickle.dumps(DstPolicy("skip", "both"))) == DstPolicy("skip", "both")


def test_after_is_exclusive_to_the_microsecond() -> None:
    """The instant asked after is not given again; a microsecond earlier it is."""
    due = datetime(2026, 1, 2, 9, tzinfo=UTC)
    schedule = parse_schedule("rrule", "FREQ=DAILY", "UTC", START, {})
    assert schedule.next(due) == [due + timedelta(days=1)]
    assert schedule.next(due - timedelta(microseconds=1)) == [due]


def test_jitter_is_pinned_bounded_and_spread() -> None:
    """Jitter depends on key and occurrence alone, and stays below its bound."""
    due, bound = datetime(2026, 1, 1, 9, tzinfo=UTC), timedelta(seconds=30)
    offsets = [jitter_offset(f"task-{n}", due, bound) for n in range(500)]
    assert all(timedelta(0) <= offset < bound for offset in offsets)
    assert len(set(offsets)) > 490
    berlin = due.astimezone(load_zone("Europe/Berlin"))
    assert jitter_offset("task-1", berlin, bound) == offsets[1]
    assert jitter_offset("task-1", due + timedelta(days=1), bound) != offsets[1]
    assert jitter_offset("task-1", due, timedelta(0)) == timedelta(0)


def test_zone_data_is_the_pinned_package() -> None:
    """The version is an IANA release."""
    assert tzdata_version()[:2] == "20"
    assert load_zone("Europe/Chisinau").key == "Europe/Chisinau"


@pytest.mark.parametrize(
    ("kind", "rule", "now", "expected"),
    [
        ("rrule", "FREQ=DAILY;BYHOUR=8", "10:20:31", "11:00:00"),
        ("rrule", "FREQ=DAILY;BYHOUR=8", "11:00:00", "11:00:00"),
        ("rrule", "FREQ=MONTHLY;BYHOUR=8", "23:20:31", "23:00:00"),
        ("rrule", "FREQ=DAILY;BYHOUR=8;BYMINUTE=30", "10:20:31", "10:21:00"),
        ("rrule", "FREQ=HOURLY;BYMINUTE=30", "10:20:31", "10:21:00"),
        ("rrule", "FREQ=DAILY;BYHOUR=8;BYSECOND=5", "10:20:31", "10:20:31"),
        ("rrule", "FREQ=WEEKLY;BYDAY=MO", "10:20:31", "10:20:31"),
        ("rrule", "FREQ=MINUTELY;INTERVAL=15;BYHOUR=9", "10:20:31", "10:20:31"),
        ("rrule", "RRULE:FREQ=DAILY;BYHOUR=8\nRRULE:FREQ=DAILY", "10:20:31", "10:20:31"),
        ("every", "15m", "10:20:31", "10:20:31"),
    ],
)
def test_without_a_start_named_hours_are_full_ones(kind: str, rule: str, now: str, expected: str) -> None:
    """The anchor of a rule without a start is the next full hour or minute that its parts mean."""
    stored = datetime.fromisoformat(f"2026-03-10T{now}.250000").replace(tzinfo=ZoneInfo("Europe/Berlin"))
    anchor = default_start(kind, rule, "Europe/Berlin", stored.astimezone(UTC))
    assert anchor == datetime.fromisoformat(f"2026-03-10T{expected}")
