"""Unusual texts that are right, and what they mean: strictness must not cost anybody a lawful schedule."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from engine.errors import ValidationFailed
from engine.schedule import occurrences, parse_schedule

START = datetime(2026, 1, 1, 9)  # a Thursday

# The text and its first instants from START in UTC; nothing follows the last one of a list that ends in "|".
RULES: list[tuple[str, str]] = [
    ("freq=daily;count=2", "01-01 09:00, 01-02 09:00 |"),
    ("Freq=Daily;Count=1", "01-01 09:00 |"),
    ("rrule:freq=weekly;byday=mo", "01-05 09:00, 01-12 09:00"),
    ("COUNT=1;FREQ=DAILY", "01-01 09:00 |"),
    ("  FREQ=DAILY;COUNT=1  ", "01-01 09:00 |"),
    ("\nFREQ=DAILY;COUNT=1\n\n", "01-01 09:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=1\r\n", "01-01 09:00 |"),
    ("RRULE:FREQ=DAI\r\n LY;COU\r\n\tNT=1", "01-01 09:00 |"),
    ("RRULE:FREQ=DAILY;\n COUNT=2", "01-01 09:00, 01-02 09:00 |"),
    ("FREQ=DAILY;INTERVAL=001;COUNT=02", "01-01 09:00, 01-02 09:00 |"),
    ("FREQ=DAILY;WKST=SU;COUNT=1", "01-01 09:00 |"),
    ("FREQ=DAILY;BYHOUR=10,09,10;COUNT=3", "01-01 09:00, 01-01 10:00, 01-02 09:00 |"),
    ("FREQ=DAILY;BYSECOND=60;COUNT=1", "01-01 09:00 |"),  # read as second 59
    ("FREQ=MONTHLY;BYDAY=+1MO", "01-05 09:00, 02-02 09:00"),
    ("FREQ=MONTHLY;BYDAY=01MO", "01-05 09:00, 02-02 09:00"),
    ("FREQ=MONTHLY;BYMONTHDAY=+5", "01-05 09:00, 02-05 09:00"),
    ("FREQ=MONTHLY;BYMONTHDAY=31", "01-31 09:00, 03-31 09:00, 05-31 09:00"),
    ("FREQ=MONTHLY;BYMONTHDAY=-31", "01-01 09:00, 03-01 09:00, 05-01 09:00"),
    ("FREQ=MONTHLY;BYMONTHDAY=-1,31", "01-31 09:00, 02-28 09:00, 03-31 09:00"),
    ("FREQ=MONTHLY;BYDAY=FR,2MO", "01-02 09:00, 01-09 09:00, 01-12 09:00, 01-16 09:00"),
    ("FREQ=MONTHLY;BYDAY=FR,1FR", "01-02 09:00, 01-09 09:00"),
    ("FREQ=MONTHLY;BYDAY=5TH", "01-29 09:00, 04-30 09:00"),
    ("FREQ=MONTHLY;BYDAY=-5TH", "01-01 09:00, 04-02 09:00"),
    ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1,-1", "01-01 09:00, 01-30 09:00, 02-02 09:00, 02-27 09:00"),
    ("FREQ=MONTHLY;BYDAY=TH;BYSETPOS=2", "01-08 09:00, 02-12 09:00"),
    ("FREQ=WEEKLY;BYDAY=MO,TH;BYSETPOS=1", "01-05 09:00, 01-12 09:00"),  # Monday of the first week is past
    ("FREQ=WEEKLY;BYDAY=MO,TH;BYSETPOS=1;COUNT=1", "01-05 09:00 |"),
    ("FREQ=DAILY;BYHOUR=8,9,10;BYSETPOS=2", "01-01 09:00, 01-02 09:00"),
    ("FREQ=DAILY;BYHOUR=8,9,10;BYSETPOS=3,-3", "01-01 10:00, 01-02 08:00, 01-02 10:00"),
    ("FREQ=YEARLY;BYDAY=1MO", "01-05 09:00, 2027-01-04 09:00"),
    ("FREQ=YEARLY;BYDAY=-1FR;BYMONTH=3,6", "03-27 09:00, 06-26 09:00"),
    ("FREQ=YEARLY;BYDAY=53TH", "12-31 09:00, 2032-12-30 09:00"),
    ("FREQ=YEARLY;BYYEARDAY=-1", "12-31 09:00, 2027-12-31 09:00"),
    ("FREQ=YEARLY;BYYEARDAY=366", "2028-12-31 09:00, 2032-12-31 09:00"),
    ("FREQ=YEARLY;BYYEARDAY=-366", "2028-01-01 09:00, 2032-01-01 09:00"),
    ("FREQ=YEARLY;BYWEEKNO=53;BYDAY=FR", "2027-01-01 09:00, 2032-12-31 09:00"),
    ("FREQ=YEARLY;BYWEEKNO=-1;BYDAY=SU", "2027-01-03 09:00, 2028-01-02 09:00"),
    ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=SU;WKST=SU", "01-04 09:00, 2027-01-03 09:00"),
    ("FREQ=YEARLY;BYWEEKNO=20", "05-14 09:00, 2027-05-20 09:00"),  # the weekday is DTSTART's
    ("FREQ=YEARLY;BYMONTHDAY=13;BYDAY=FR", "02-13 09:00, 03-13 09:00, 11-13 09:00"),
    ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "2028-02-29 09:00, 2032-02-29 09:00"),
    ("FREQ=YEARLY;INTERVAL=400", "01-01 09:00, 2426-01-01 09:00"),
    ("FREQ=WEEKLY;BYMONTH=3", "03-05 09:00, 03-12 09:00"),
    ("FREQ=DAILY;BYMONTHDAY=-1;BYDAY=SA", "01-31 09:00, 02-28 09:00, 10-31 09:00"),
    ("FREQ=HOURLY;BYHOUR=9,17;BYDAY=MO", "01-05 09:00, 01-05 17:00, 01-12 09:00"),
    ("FREQ=HOURLY;BYYEARDAY=32;BYHOUR=0", "02-01 00:00, 2027-02-01 00:00"),
    ("FREQ=HOURLY;INTERVAL=5;BYMINUTE=0,30;COUNT=4", "01-01 09:00, 01-01 09:30, 01-01 14:00, 01-01 14:30 |"),
    ("FREQ=MINUTELY;INTERVAL=1440", "01-01 09:00, 01-02 09:00"),
    ("FREQ=MINUTELY;BYHOUR=9;BYMINUTE=0,1;COUNT=3", "01-01 09:00, 01-01 09:01, 01-02 09:00 |"),
    ("FREQ=SECONDLY;INTERVAL=86400", "01-01 09:00, 01-02 09:00"),
    ("FREQ=SECONDLY;BYSECOND=0;BYMINUTE=0", "01-01 09:00, 01-01 10:00"),
    ("FREQ=DAILY;UNTIL=20260102", "01-01 09:00, 01-02 09:00 |"),
    ("FREQ=DAILY;UNTIL=20260102T090000", "01-01 09:00, 01-02 09:00 |"),
    ("FREQ=DAILY;UNTIL=20260102T090000z", "01-01 09:00, 01-02 09:00 |"),
    ("FREQ=DAILY;UNTIL=20260102T085959Z", "01-01 09:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=1\nRRULE:FREQ=DAILY;COUNT=2", "01-01 09:00, 01-02 09:00 |"),
    ("FREQ=DAILY;COUNT=1\nFREQ=WEEKLY;BYDAY=MO;COUNT=1", "01-01 09:00, 01-05 09:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=4\nEXRULE:FREQ=DAILY;INTERVAL=2;COUNT=1", "01-02 09:00, 01-03 09:00, 01-04 09:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=2\nRDATE:20260101T090000,20260101T090000", "01-01 09:00, 01-02 09:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=1\nRDATE;TZID=Asia/Tokyo:20260105T180000", "01-01 09:00, 01-05 09:00 |"),
    ('RRULE:FREQ=DAILY;COUNT=1\nRDATE;TZID="Asia/Tokyo":20260105T180000', "01-01 09:00, 01-05 09:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=1\nRDATE;VALUE=DATE:20260105,20260107", "01-01 09:00, 01-05 09:00, 01-07 09:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=1\nRDATE;VALUE=PERIOD:20260105T090000Z/PT5H30M", "01-01 09:00, 01-05 09:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=1\nRDATE;VALUE=PERIOD:20260105T090000/20260105T100000", "01-01 09:00, 01-05 09:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=1\nRDATE;VALUE=PERIOD;TZID=Asia/Tokyo:20260105T180000/P1W", "01-01 09:00, 01-05 09:00 |"),
    ("RDATE:20260105T090000Z", "01-05 09:00 |"),
    ("RDATE:20260107T090000Z\nRDATE:20260105T090000Z", "01-05 09:00, 01-07 09:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=3\nEXDATE:20260102T090000Z", "01-01 09:00, 01-03 09:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=3\nEXDATE;TZID=America/New_York:20260102T040000", "01-01 09:00, 01-03 09:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=3\nEXDATE;VALUE=DATE:20260101,20260103", "01-02 09:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=3\nEXDATE;VALUE=date-time:20260102T090000", "01-01 09:00, 01-03 09:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=3\nEXDATE:20260102T090001", "01-01 09:00, 01-02 09:00, 01-03 09:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=2\nRDATE:20260103T090000\nEXDATE:20260103T090000", "01-01 09:00, 01-02 09:00 |"),
    ("EXDATE:20260101T090000\nRRULE:FREQ=DAILY;COUNT=2", "01-02 09:00 |"),
    ("DTSTART:20260201T080000\nRRULE:FREQ=DAILY;COUNT=2", "02-01 08:00, 02-02 08:00 |"),
    ("RRULE:FREQ=DAILY;COUNT=2\nDTSTART:20260201T080000Z", "02-01 08:00, 02-02 08:00 |"),
    ("DTSTART;TZID=Europe/Berlin:20260701T090000\nRRULE:FREQ=DAILY;COUNT=1", "07-01 07:00 |"),
    ("DTSTART;VALUE=DATE-TIME;TZID=Europe/Berlin:20260701T090000\nRRULE:FREQ=DAILY;COUNT=1", "07-01 07:00 |"),
    ("DTSTART;VALUE=DATE:20260201\nRRULE:FREQ=WEEKLY;UNTIL=20260208", "02-01 00:00, 02-08 00:00 |"),
    ("DTSTART;TZID=Europe/Berlin:20260701T090000\nRRULE:FREQ=DAILY;UNTIL=20260702T065959Z", "07-01 07:00 |"),
    ("DTSTART:20260131T090000\nRRULE:FREQ=MONTHLY;COUNT=3", "01-31 09:00, 03-31 09:00, 05-31 09:00 |"),
    ("DTSTART:20260101T090000\nRRULE:FREQ=DAILY;BYHOUR=8;COUNT=1", "01-02 08:00 |"),  # DTSTART is no instance
    ("DTSTART:20260101T090000\nRDATE:20260103T090000", "01-01 09:00, 01-03 09:00 |"),
]  # fmt: skip

OTHERS: list[tuple[str, str, str]] = [
    ("cron", "  0   9  *  *  *  ", "01-01 09:00, 01-02 09:00"), ("cron", "0\t9\t*\t*\t*", "01-01 09:00"),
    ("cron", "00 09 01 01 *", "01-01 09:00, 2027-01-01 09:00"),
    ("cron", "0 9 * jan,FEB Mon-fri", "01-01 09:00, 01-02 09:00"),
    ("cron", "0,0,0 9 * * *", "01-01 09:00, 01-02 09:00"), ("cron", "0-0 9-9 * * *", "01-01 09:00, 01-02 09:00"),
    ("cron", "*/1 9 1 1 *", "01-01 09:00, 01-01 09:01"), ("cron", "0 9 1-31 * *", "01-01 09:00, 01-02 09:00"),
    ("cron", "0 9 1-31 * MON", "01-01 09:00, 01-02 09:00"), ("cron", "0 9 */2 * MON", "01-05 09:00, 01-19 09:00"),
    ("cron", "0 9 1-31/2 * MON", "01-01 09:00, 01-03 09:00, 01-05 09:00"),
    ("cron", "0 9 * * 0-7", "01-01 09:00, 01-02 09:00"),
    ("cron", "0 9 * * 7", "01-04 09:00, 01-11 09:00"), ("cron", "0 9 * * SUN,0,7", "01-04 09:00, 01-11 09:00"),
    ("cron", "0 9 * * MON-SUN", "01-01 09:00, 01-02 09:00"), ("cron", "0 9 * * 6-7", "01-03 09:00, 01-04 09:00"),
    ("cron", "0 9 * * thu#1", "01-01 09:00, 02-05 09:00"), ("cron", "0 9 * * 4#1,4#3", "01-01 09:00, 01-15 09:00"),
    ("cron", "0 9 * * 4L", "01-29 09:00, 02-26 09:00"), ("cron", "0 9 * * THUL", "01-29 09:00"),
    ("cron", "0 9 l * *", "01-31 09:00"),
    ("cron", "0 9 L,15 * *", "01-15 09:00, 01-31 09:00"), ("cron", "0 9 L * FRI", "01-02 09:00, 01-09 09:00"),
    ("cron", "0 9 29 2 *", "2028-02-29 09:00"), ("cron", "0 9 31 * *", "01-31 09:00, 03-31 09:00"),
    ("cron", "0 9 * * */6", "01-03 09:00"),
    ("cron", "@YEARLY", "2027-01-01 00:00"), ("cron", "@annually", "2027-01-01 00:00"),
    ("cron", " @midnight ", "01-02 00:00"),
    ("cron", "59 23 31 12 *", "12-31 23:59"),
    ("cron", "10/15 9 * * *", "01-01 09:10, 01-01 09:25, 01-01 09:40, 01-01 09:55"),
    ("every", "P1DT12H", "01-01 09:00, 01-02 21:00"), ("every", "90", "01-01 09:00, 01-01 09:01"),
    ("every", "1w", "01-01 09:00, 01-08 09:00"),
    ("every", "36525d", "01-01 09:00, 2126-01-02 09:00"), ("every", "1h 30m", "01-01 09:00, 01-01 10:30"),
    ("condition", "1m", "01-01 09:00"),
    ("once", "2026-12-01T09:00", "12-01 09:00 |"), ("once", "2026-12-01 09:00:00", "12-01 09:00 |"),
    ("once", "20261201T090000Z", "12-01 09:00 |"),
    ("once", "2026-12-01T09:00:00.000Z", "12-01 09:00 |"), ("once", "2026-12-01T09:00+01:00", "12-01 08:00 |"),
    ("once", "2026-12-01T09:00-0330", "12-01 12:30 |"), ("once", " 2026-12-01T09:00 ", "12-01 09:00 |"),
    ("once", "2025-06-01T09:00", "2025-06-01 09:00 |"),
    ("event", "email.*", "|"), ("event", "*", "|"), ("event", "a-b.c_d.E9", "|"), ("manual", "", "|"),
    ("manual", "manual", "|"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), RULES, ids=[text[:70] for text, _ in RULES])
def test_rules(text: str, expected: str) -> None:
    """A lawful rule, however it is written, is read as RFC 5545 says."""
    assert_first("rrule", text, expected)


@pytest.mark.parametrize(("kind", "expr", "expected"), OTHERS, ids=[f"{k} {e}" for k, e, _ in OTHERS])
def test_other_kinds(kind: str, expr: str, expected: str) -> None:
    """So are lines, intervals, moments and topics."""
    assert_first(kind, expr, expected)


def test_the_form_that_seed_documents_send() -> None:
    """`once` with what Python prints for the present instant, microseconds and offset included."""
    for moment in (datetime(2026, 11, 21, 14, 23, 37, 123456, UTC), datetime(2026, 11, 21, 14, tzinfo=UTC)):
        assert occurrences("once", moment.isoformat(), "Europe/Chisinau", None, None, 2) == [moment]


def assert_first(kind: str, expr: str, expected: str, **options: Any) -> None:
    """The first instants are the stated ones; a list that ends in "|" is the whole."""
    listed, ends, _ = expected.partition("|")
    wanted = [
        part.strip() if part.strip()[4:5] == "-" else f"2026-{part.strip()}"
        for part in listed.split(",")
        if part.strip()
    ]
    found = occurrences(kind, expr, "UTC", START, None, len(wanted) + bool(ends), **options)
    assert [f"{instant:%Y-%m-%d %H:%M}" for instant in found] == wanted
    assert all(instant.utcoffset() == timedelta(0) for instant in found)


# --- what the question may be -------------------------------------------------------------------------------


def test_after_counts_microseconds() -> None:
    """Strictly later means later by as little as a microsecond, in whatever zone `after` is written."""
    due = datetime(2026, 1, 2, 9, tzinfo=UTC)
    tick = timedelta(microseconds=1)
    tokyo = timezone(timedelta(hours=9))
    for kind, expr in (
        ("rrule", "FREQ=DAILY"),
        ("cron", "0 9 * * *"),
        ("every", "1d"),
        ("rrule", "FREQ=HOURLY;INTERVAL=24"),
    ):
        for after, first in ((due - tick, due), (due, due + timedelta(1)), (due + tick, due + timedelta(1))):
            assert occurrences(kind, expr, "UTC", START, after, 1) == [first]
            assert occurrences(kind, expr, "UTC", START, after.astimezone(tokyo), 1) == [first]


def test_after_before_the_start_is_the_start() -> None:
    """A question from long before DTSTART is answered as one without `after`."""
    for kind, expr in (
        ("rrule", "FREQ=DAILY"),
        ("cron", "0 9 * * *"),
        ("every", "1d"),
        ("rrule", "FREQ=MINUTELY"),
    ):
        early = occurrences(kind, expr, "UTC", START, datetime(1970, 1, 1, tzinfo=UTC), 3)
        assert early == occurrences(kind, expr, "UTC", START, None, 3)
        assert early[0] == START.replace(tzinfo=UTC)


def test_limit_zero_and_the_end() -> None:
    """None wanted, none given; and none after the last."""
    assert occurrences("rrule", "FREQ=DAILY", "UTC", START, None, 0) == []
    assert (
        occurrences("rrule", "FREQ=DAILY;COUNT=2", "UTC", START, datetime(2026, 1, 2, 9, tzinfo=UTC), 5) == []
    )
    assert (
        occurrences("once", "2026-12-01T09:00", "UTC", START, datetime(2026, 12, 1, 9, tzinfo=UTC), 5) == []
    )


@pytest.mark.parametrize("after", [START, datetime(2026, 1, 1), date(2026, 1, 1), "2026-01-01T00:00:00Z", 0])
def test_after_must_be_an_aware_instant(after: Any) -> None:
    """A naive `after` says nothing about when, and other types nothing at all."""
    with pytest.raises(ValidationFailed):
        occurrences("cron", "@daily", "UTC", START, after, 1)


@pytest.mark.parametrize("limit", [-1, 10**9, 1.5, "5", None])
def test_limit_must_be_a_whole_number(limit: Any) -> None:
    """Anything else is refused, not compared."""
    with pytest.raises(ValidationFailed):
        occurrences("cron", "@daily", "UTC", START, None, limit)


@pytest.mark.parametrize(
    "start", [date(2026, 1, 1), "2026-01-01T09:00", 0, datetime(1, 1, 1), datetime(9999, 1, 1)]
)
def test_start_must_be_a_datetime_of_our_times(start: Any) -> None:
    """A start of another type, or of no year that a schedule may name, is refused."""
    for kind, expr in (("rrule", "FREQ=DAILY"), ("cron", "@daily"), ("every", "1h")):
        with pytest.raises(ValidationFailed):
            occurrences(kind, expr, "UTC", start, None, 1)


def test_naive_and_aware_starts_that_mean_the_same() -> None:
    """09:00 in New York, 14:00 in UTC and 23:00 in Tokyo anchor the same rule."""
    expected = [datetime(2026, 1, day, 14, tzinfo=UTC) for day in (1, 2, 3)]
    starts = [
        START,
        datetime(2026, 1, 1, 14, tzinfo=UTC),
        datetime(2026, 1, 1, 23, tzinfo=timezone(timedelta(hours=9))),
    ]
    for start in starts:
        assert occurrences("rrule", "FREQ=DAILY", "America/New_York", start, None, 3) == expected
        assert occurrences("every", "24h", "America/New_York", start, None, 3) == expected


def test_jitter_moves_no_instant() -> None:
    """`jitter` is about when a run may begin; the schedule's own instants stay."""
    plain = occurrences("cron", "@daily", "UTC", START, None, 3)
    assert occurrences("cron", "@daily", "UTC", START, None, 3, jitter="10m") == plain
    assert parse_schedule("cron", "@daily", "UTC", START, {"jitter": "10m"}).next(None, 3) == plain


@pytest.mark.parametrize("policy", [{"gap": "skip"}, {"gap": "skip", "fold": "both"}, {}])
def test_the_policy_may_be_given_as_definitions_write_it(policy: dict[str, Any]) -> None:
    """`dst` as one mapping says what its members say by themselves."""
    about = ("cron", "30 2 * * *", "Europe/Berlin", datetime(2026, 3, 28), None, 300)
    assert occurrences(*about, dst=policy) == occurrences(*about, **policy)
