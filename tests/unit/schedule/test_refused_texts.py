"""More texts that a schedule refuses, by kind of slip: what lenient parsers let through, each with its reason."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Any

import pytest

from engine.errors import ValidationFailed
from engine.schedule import occurrences, parse_schedule

START = datetime(2026, 1, 1)

RULES = [
    # A part that stands twice, or is none.
    ("FREQ=DAILY;COUNT=2;COUNT=2", "COUNT stands twice"),
    ("FREQ=DAILY;INTERVAL=1;INTERVAL=1", "INTERVAL stands twice"),
    ("FREQ=DAILY;UNTIL=20270101;UNTIL=20270102", "UNTIL stands twice"), ("FREQ=DAILY;WKST=MO;WKST=MO", "WKST stands"),
    ("FREQ=DAILY;BYDAY=MO;BYDAY=TU", "BYDAY stands twice"), ("FREQ=DAILY;byhour=1;BYHOUR=2", "BYHOUR stands twice"),
    ("FREQ=DAILY;EVERY=2", "not a part"), ("FREQ=DAILY;BYMONTHS=1", "Did you mean 'BYMONTH'"),
    ("FREQ=DAILY;TZID=UTC", "not a part"), ("FREQ=DAILY;DTSTART=20260101T000000", "not a part"),
    ("FREQ=DAILY;EXDATE=20260101T000000", "not a part"), ("RRULE=FREQ=DAILY", "not a part"),
    ("FREQ=DAILY;BYWEEKDAY=MO", "not a part"), ("FREQ=DAILY;SKIP=BACKWARD", "not a part"),
    ("RSCALE=HEBREW;FREQ=YEARLY;BYMONTH=5L", "not a part"), ("FREQ =DAILY", "not a part"),
    ("FREQ=DAILY;COUNT =2", "not a part"), ("FREQ= DAILY", "must be one of"), ("FREQ=DAILY=WEEKLY", "must be one of"),
    ("FREQ=DAILY,WEEKLY", "must be one of"), ("FREQ=BIWEEKLY", "must be one of"), ("FREQ=DAILY\\;COUNT=2", "FREQ"),
    ("'FREQ=DAILY'", "FREQ"), ("COUNT=2;UNTIL=20270101", "no FREQ"), ("=DAILY", "not a part"), ("FREQ", "NAME=VALUE"),
    (";", "NAME=VALUE"), ("FREQ=DAILY COUNT=2", "must be one of"),
    # Numbers that are none, too great, or of another place.
    ("FREQ=DAILY;INTERVAL=", "NAME=VALUE"), ("FREQ=DAILY;INTERVAL=1.5", "INTERVAL"),
    ("FREQ=DAILY;INTERVAL= 2", "INTERVAL"), ("FREQ=DAILY;INTERVAL=two", "INTERVAL"),
    ("FREQ=DAILY;INTERVAL=0x10", "INTERVAL"), ("FREQ=DAILY;INTERVAL=1e2", "INTERVAL"),
    ("FREQ=DAILY;INTERVAL=1_0", "INTERVAL"), ("FREQ=DAILY;INTERVAL=2,3", "INTERVAL"),
    ("FREQ=DAILY;INTERVAL=00", "INTERVAL"), ("FREQ=DAILY;INTERVAL=" + "9" * 400, "INTERVAL"),
    ("FREQ=DAILY;COUNT=+3", "COUNT"), ("FREQ=DAILY;COUNT=100001", "COUNT"), ("FREQ=DAILY;COUNT=00", "COUNT"),
    ("FREQ=DAILY;COUNT=3,4", "COUNT"), ("FREQ=DAILY;COUNT=²", "ASCII"), ("FREQ=DAILY;BYMONTH=1-3", "BYMONTH"),
    ("FREQ=DAILY;BYMONTH=1;2", "NAME=VALUE"), ("FREQ=DAILY;BYMONTH=+1", "BYMONTH"),
    ("FREQ=DAILY;BYMONTH=", "NAME=VALUE"), ("FREQ=YEARLY;BYMONTH=5L", "BYMONTH"),
    ("FREQ=DAILY;BYHOUR=", "NAME=VALUE"), ("FREQ=DAILY;BYHOUR=9-17", "BYHOUR"), ("FREQ=DAILY;BYHOUR=9.5", "BYHOUR"),
    ("FREQ=DAILY;BYHOUR=*", "BYHOUR"), ("FREQ=DAILY;BYHOUR=9;BYMINUTE=-30", "BYMINUTE"),
    ("FREQ=DAILY;BYSECOND=-1", "BYSECOND"), ("FREQ=MONTHLY;BYMONTHDAY=1.5", "BYMONTHDAY"),
    ("FREQ=MONTHLY;BYMONTHDAY=--1", "BYMONTHDAY"), ("FREQ=MONTHLY;BYMONTHDAY=-0", "BYMONTHDAY"),
    ("FREQ=MONTHLY;BYMONTHDAY=L", "BYMONTHDAY"), ("FREQ=MONTHLY;BYMONTHDAY=1,,2", "BYMONTHDAY"),
    ("FREQ=MONTHLY;BYMONTHDAY=1, 2", "BYMONTHDAY"), ("FREQ=YEARLY;BYYEARDAY=-367", "BYYEARDAY"),
    ("FREQ=YEARLY;BYWEEKNO=-54", "BYWEEKNO"), ("FREQ=YEARLY;BYWEEKNO=W20", "BYWEEKNO"),
    ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=-367", "BYSETPOS"), ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=", "NAME=VALUE"),
    # Weekdays.
    ("FREQ=WEEKLY;BYDAY=1", "BYDAY"), ("FREQ=WEEKLY;BYDAY=MONDAY", "BYDAY"), ("FREQ=WEEKLY;BYDAY=M", "BYDAY"),
    ("FREQ=WEEKLY;BYDAY=MO-FR", "BYDAY"), ("FREQ=WEEKLY;BYDAY=MO/TU", "BYDAY"), ("FREQ=WEEKLY;BYDAY=+MO", "BYDAY"),
    ("FREQ=WEEKLY;BYDAY=,MO", "BYDAY"), ("FREQ=WEEKLY;BYDAY=MO,", "BYDAY"), ("FREQ=WEEKLY;BYDAY=MO, TU", "BYDAY"),
    ("FREQ=MONTHLY;BYDAY=1 MO", "BYDAY"), ("FREQ=MONTHLY;BYDAY=MO(1)", "BYDAY"),
    ("FREQ=MONTHLY;BYDAY=-54MO", "BYDAY"), ("FREQ=MONTHLY;BYDAY=1.MO", "BYDAY"), ("FREQ=WEEKLY;WKST=XX", "WKST"),
    ("FREQ=WEEKLY;WKST=MON", "WKST"),
    # What RFC 5545 forbids beside a FREQ, each combination for itself.
    ("FREQ=HOURLY;BYDAY=1MO", "MONTHLY or YEARLY"), ("FREQ=MINUTELY;BYDAY=-1SU", "MONTHLY or YEARLY"),
    ("FREQ=SECONDLY;BYDAY=2TU", "MONTHLY or YEARLY"), ("FREQ=WEEKLY;BYWEEKNO=1", "needs FREQ=YEARLY"),
    ("FREQ=DAILY;BYWEEKNO=1", "needs FREQ=YEARLY"), ("FREQ=HOURLY;BYWEEKNO=1", "needs FREQ=YEARLY"),
    ("FREQ=MINUTELY;BYWEEKNO=1", "needs FREQ=YEARLY"), ("FREQ=SECONDLY;BYWEEKNO=1", "needs FREQ=YEARLY"),
    ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO,-1FR", "BYWEEKNO"), ("FREQ=WEEKLY;BYMONTHDAY=-1;BYDAY=MO", "WEEKLY"),
    ("FREQ=YEARLY;BYSETPOS=1", "BYSETPOS"), ("FREQ=WEEKLY;BYSETPOS=-1", "BYSETPOS"),
    ("FREQ=DAILY;BYSETPOS=1", "BYSETPOS"), ("FREQ=HOURLY;BYSETPOS=1", "BYSETPOS"),
    ("FREQ=DAILY;COUNT=1;UNTIL=20270101", "exclude each other"),
    # UNTIL.
    ("FREQ=DAILY;UNTIL=", "NAME=VALUE"), ("FREQ=DAILY;UNTIL=20261231T", "not a date-time"),
    ("FREQ=DAILY;UNTIL=20261231T0900", "not a"), ("FREQ=DAILY;UNTIL=20261231T090000+0200", "not a date-time"),
    ("FREQ=DAILY;UNTIL=20261231 090000", "not a date-time"),
    ("FREQ=DAILY;UNTIL=20261231T090000Z,20271231T090000Z", "not a date-time"),
    ("FREQ=DAILY;UNTIL=20261231T090000ZZ", "not a"), ("FREQ=DAILY;UNTIL=18991231", "outside"),
    ("FREQ=DAILY;UNTIL=20270229", "no date"), ("FREQ=DAILY;UNTIL=20261231T240000", "no date"),
    ("FREQ=DAILY;UNTIL=00000000", "no date"), ("FREQ=DAILY;UNTIL=NEVER", "not a date-time"),
    ("FREQ=DAILY;UNTIL=1798761600", "not a"),
    # Letters that are not what they look like.
    ("FREQ=DAıLY", "ASCII"), ("FREQ=WEEKLY;BYDAY=ſU", "ASCII"), ("FREQ＝DAILY", "ASCII"),
    ("FREQ=DAILY;\u200bCOUNT=2", "ASCII"), ("FREQ=DAILY\x00", "FREQ"), ("FREQ=DAILY;BYHOUR=١", "ASCII"),
    ("\ufeffFREQ=DAILY", "ASCII"), ("FREQ=DAILY;COUNT=2\u00a0", "ASCII"),
]  # fmt: skip

LINES = [
    ("RRULE", "NAME=VALUE"), ("RRULE FREQ=DAILY", "not a part"), ("XRULE:FREQ=DAILY", "not a property"),
    ("RRULES:FREQ=DAILY", "Did you"), ("RRULE:RRULE:FREQ=DAILY", "not a part"), ("RRULE: FREQ=DAILY", "not a part"),
    ("RRULE :FREQ=DAILY", "not a content line"), ("RRULE:FREQ=DAILY\nRRULE:", "NAME=VALUE"),
    ("RRULE:FREQ=DAILY\nEXRULE:FREQ=NEVER", "must be one of"), ("EXRULE:FREQ=DAILY", "no rule"),
    ("EXDATE:20260101T000000", "no rule"), ("RRULE:FREQ=DAILY\rRRULE:FREQ=DAILY", "FREQ"),
    ("RDATE:", "not a date-time"), ("RDATE:20260101T000000,", "not a date-time"),
    ("RDATE:20260101", "needs VALUE=DATE"), ("RDATE;VALUE=DATE:20260101T000000", "date without a time"),
    ("RDATE;VALUE=TIME:090000", "VALUE must be one of"), ("RDATE;VALUE=DATE:20260230", "no date"),
    ("RDATE;TZID=:20260101T000000", "time zone"), ("RDATE;TZID:20260101T000000", "content line"),
    ("RDATE;TZID=UTC;TZID=UTC:20260101T000000", "twice"), ("RDATE;TZID=UTC:20260101T000000Z", "cannot have a TZID"),
    ("RDATE;VALUE=DATE;TZID=UTC:20260101", "cannot have a TZID"),
    ("RDATE;VALUE=PERIOD:20260101T000000Z", "not a period"), ("RDATE;VALUE=PERIOD:20260101T000000Z/", "not a period"),
    ("RDATE;VALUE=PERIOD:20260101T000000Z/-PT1H", "not a period"),
    ("RDATE;VALUE=PERIOD:20260101T000000Z/PT0S", "not a period"),
    ("RDATE;VALUE=PERIOD:20260101T000000Z/P", "not a period"),
    ("RDATE;VALUE=PERIOD:20260101T000000Z/P1M", "not a period"),
    ("RDATE;VALUE=PERIOD:20260102T000000Z/20260101T000000Z", "not a period"),
    ("RDATE;VALUE=PERIOD:20260101T000000Z/20260101T000000Z", "not a period"),
    ("RDATE;VALUE=PERIOD:20260101/P1D", "VALUE=DATE"),
    ("RDATE;VALUE=PERIOD:20260101T000000Z/20260102T000000", "not a period"),
    ("RDATE;VALUE=PERIOD:20260101T000000Z/later", "not a"), ("RRULE:FREQ=DAILY\nEXDATE:", "not a date-time"),
    ("RRULE:FREQ=DAILY\nEXDATE:2026-01-01", "not a date-time"),
    ("RRULE:FREQ=DAILY\nEXDATE;TZID=Europe/Berlin:20260101T090000Z", "cannot have a TZID"),
    ("RRULE:FREQ=DAILY\nEXDATE;RANGE=THISANDFUTURE:20260101T000000Z", "parameter"),
    ("RRULE:FREQ=DAILY\nDTEND:20260101T100000Z", "not a"), ("RRULE:FREQ=DAILY\nTZID:Europe/Berlin", "not a property"),
    ("RRULE:FREQ=DAILY\nSUMMARY:x", "not a property"), ("RRULE:FREQ=DAILY\nX-WR-TIMEZONE:UTC", "not a property"),
    ("RRULE;X-NOTE=1:FREQ=DAILY", "no parameters"), ("DTSTART:\nRRULE:FREQ=DAILY", "not a date-time"),
    ("DTSTART=20260101T000000\nRRULE:FREQ=DAILY", "not a part"),
    ("DTSTART:20260101T000000+0100\nRRULE:FREQ=DAILY", "not a date-time"),
    ("DTSTART:2026-01-01T00:00:00\nRRULE:FREQ=DAILY", "not a"),
    ("DTSTART:20260101T000000,20260102T000000\nRRULE:FREQ=DAILY", "one date-time"),
    ("DTSTART;TZID=europe/berlin:20260101T000000", "mean"),
    ("DTSTART;VALUE=PERIOD:20260101T000000Z/PT1H\nRRULE:FREQ=DAILY", "VALUE"),
    ("DTSTART:20260101T000000Z;\nRRULE:FREQ=DAILY", "not a"),
    ('DTSTART;TZID="Europe/Berlin:20260101T000000\nRRULE:FREQ=DAILY', "content line"),
    ("DTSTART;TZID=/x/UTC:20260101T000000", "time zone"),
    ("DTSTART:20260101T000000\nRRULE:FREQ=DAILY;UNTIL=20270101", "must be a date where"),
    ("DTSTART:99990101T000000Z\nRRULE:FREQ=DAILY", "outside"),
    ("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY;UNTIL=20270101T000000", "must be in UTC"),
    ("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY\nEXRULE:FREQ=DAILY;UNTIL=20270101T000000", "must be in UTC"),
    ("DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=DAILY;BYHOUR=9", "time of day"),
    ("DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=DAILY;BYMINUTE=0", "time"),
    ("DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=DAILY;BYSECOND=0", "time of day"),
    ("DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=DAILY\nEXRULE:FREQ=DAILY;BYHOUR=9", "time of day"),
]  # fmt: skip

CRON = [
    ("0 0 * * * root", "5 fields"), ("0 0 0 * * ?", "seconds and years"), ("0 0 0 1 1 ? 2026", "seconds and years"),
    ("TZ=UTC 0 0 * * *", "5 fields"), ("@daily 5", "macro"), ("@", "macro"), ("@@daily", "macro"),
    ("@every_minute", "macro"), ("daily", "5 fields"), ("*/ * * * *", "minute"), ("*/a * * * *", "minute"),
    ("*/-5 * * * *", "minute"), ("*/1.5 * * * *", "minute"), ("/5 * * * *", "minute"), ("1/ * * * *", "minute"),
    ("0-60 * * * *", "minute"), ("0-5-9 * * * *", "minute"), ("5- * * * *", "minute"), ("1, * * * *", "minute"),
    (",1 * * * *", "minute"), ("** * * * *", "minute"), ("*5 * * * *", "minute"), ("0~30 * * * *", "minute"),
    ("H * * * *", "minute"), ("L * * * *", "minute"), ("+5 * * * *", "minute"), ("1.5 * * * *", "minute"),
    ("'0 0 * * *'", "minute"), ("0 24 * * *", "hour"), ("0 23-1 * * *", "backwards"), ("0 9am * * *", "hour"),
    ("0 L * * *", "hour"), ("0 */24 * * *", "step"), ("0 0 1-0 * *", "day-of-month"), ("0 0 0-5 * *", "day-of-month"),
    ("0 0 W * *", "day-of-month"), ("0 0 LW * *", "day-of-month"), ("0 0 L- * *", "day-of-month"),
    ("0 0 -1 * *", "day-of-month"), ("0 0 1 * ?", "day-of-week"), ("0 0 MON * *", "day-of-month"),
    ("0 0 1 JANUARY *", "month"), ("0 0 * L *", "month"), ("0 0 * 12-1 *", "backwards"), ("0 0 * 0-11 *", "month"),
    ("0 0 * MON *", "month"), ("0 0 * * MONDAY", "day-of-week"), ("0 0 * * JAN", "day-of-week"),
    ("0 0 * * -MON", "day-of-week"), ("0 0 * * MON-", "day-of-week"), ("0 0 * * #1", "day-of-week"),
    ("0 0 * * 1#", "day-of-week"), ("0 0 * * 1#1#2", "day-of-week"), ("0 0 * * 1-5#2", "day-of-week"),
    ("0 0 * * 8L", "day-of-week"), ("0 0 * * L5", "day-of-week"), ("0 0 * * SAT-MON", "backwards"),
    ("0 0 * * MON,,FRI", "day-of-week"), ("0 0 31 2 *", "never fires"), ("0 0 30 FEB *", "never fires"),
    ("0 0 30,31 2 *", "never fires"), ("0 0 * * *;", "day-of-week"), ("* * * * ſUN", "ASCII"),
    ("@wee\u212aly", "ASCII"),
    ("٣ * * * *", "ASCII"), ("0\u00a00 * * *", "ASCII"), ("0 0\n* * *", "one line"),
    ("0 0 * * *\n0 1 * * *", "one line"),
]  # fmt: skip

ONCE = [
    "", "now", "tomorrow 09:00", "09:00", "2026-12-01", "2026-12", "20261201", "2026-12-01T", "2026-12-01T25:00",
    "2026-12-01T24:01", "2026-12-01T09:60", "2026-12-01T09:00:61", "2026-02-29T09:00", "2026-13-01T09:00",
    "2026-00-01T09:00", "2026-12-01T9:00", "2026-12-01X09:00", "2026-W49-2T09:00", "2026-335T09:00", "1798761600",
    "2026-12-01T09:00:00+25:00", "2026-12-01T09:00[UTC]", "2026-12-01T09:00 Europe/Berlin",
    "2026-12-01T09:00,2026-12-02T09:00", "0000-01-01T00:00", "1899-12-31T23:59", "9999-12-31T23:59",
    "2026-12-01T0９:00", "+2026-12-01T09:00", "01/12/2026 09:00", "P1D", "2026-12-01T09:00ZZ",
]  # fmt: skip

EVERY = [
    "", "0", "-5m", "5x", "m", "1h-5m", "15 min", "1y", "P1M", "P1Y", "PT", "P", "0.5s", "999ms", "1e3s", "inf", "nan",
    "5m5m", "m5", "1h 1h", "١m", "101y", "36526d", "1/2h", "1:30", "* * * * *",
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), RULES + LINES, ids=[text[:60] for text, _ in RULES + LINES])
def test_rules_and_lines(text: str, reason: str) -> None:
    """Each is refused for its own reason, in a message of readable length with a problem to show for it."""
    refused = refusal("rrule", text)
    assert reason in refused.message
    assert len(refused.message) < 400


@pytest.mark.parametrize(("line", "reason"), CRON, ids=[line for line, _ in CRON])
def test_cron(line: str, reason: str) -> None:
    """Each cron line is refused, naming the field that is wrong."""
    assert reason in refusal("cron", line).message


@pytest.mark.parametrize("text", ONCE)
def test_once(text: str) -> None:
    """What is no single moment of the years that a schedule may name is refused."""
    assert refusal("once", text).errors[0].code in ("date", "once")


@pytest.mark.parametrize("text", EVERY)
def test_every(text: str) -> None:
    """What is no length of time of at least a second is refused, for conditions as for intervals."""
    for kind in ("every", "condition"):
        refusal(kind, text)


OPTIONS: list[dict[str, Any]] = [
    {"gap": "SHIFT"}, {"gap": None}, {"gap": 0}, {"gap": ["shift"]}, {"gap": "both"}, {"gap": {}}, {"fold": "last"},
    {"fold": 0}, {"fold": True}, {"fold": "shift"}, {"dst": "shift"}, {"timezone": "UTC"}, {"count": 3},
    {"Gap": "skip"}, {"exdates": 5}, {"exdates": "2026-05-01"}, {"exdates": [None]}, {"exdates": [""]},
    {"exdates": [20260501]},
    {"exdates": [True]}, {"exdates": [time(9)]}, {"exdates": ["2026-05-32"]}, {"exdates": ["20260501T090000Z", "x"]},
    {"exdates": [b"2026-05-01"]}, {"exdates": [date(1850, 1, 1)]}, {"rdates": ["0001-01-01"]}, {"rdates": 1.5},
    {"rdates": [["2026-05-01"]]}, {"rdates": [datetime(9999, 1, 1)]}, {"rdates": ["2026-05-01"] * 1001},
    {"end": "soon"}, {"end": 5}, {"end": "2026-02-30"}, {"end": ["2026-05-01"]}, {"end": "2025-12-31"},
    {"jitter": "soon"}, {"jitter": -5}, {"jitter": "-5s"},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options(options: dict[str, Any]) -> None:
    """Options of another name, type or value are refused, whether asked by definition or by question."""
    refusal("cron", "@daily", **options)
    with pytest.raises(ValidationFailed):
        occurrences("cron", "@daily", "UTC", START, None, 1, **options)


ZONES: list[Any] = [
    None, "", " UTC", "utc", "Z", "+02:00", "UTC+2", "europe/berlin", "Europe/Atlantis", "localtime", "posix/UTC",
    "right/UTC", "/UTC", "Europe/../UTC", "Europe", "Europe/", "zone.tab", "tzdata.zi", "UTC\n", "Berlin", b"UTC", 5,
    ["UTC"], "x" * 5000, "Εurope/Berlin",
]  # fmt: skip


@pytest.mark.parametrize("zone", ZONES, ids=lambda zone: repr(zone)[:30])
def test_zones(zone: Any) -> None:
    """Only the names of the packaged tz database are zones, letter for letter."""
    for kind, expr in (
        ("cron", "@daily"),
        ("rrule", "FREQ=DAILY"),
        ("once", "2026-12-01T09:00"),
        ("every", "1h"),
    ):
        with pytest.raises(ValidationFailed):
            occurrences(kind, expr, zone, START, None, 1)


def refusal(kind: str, expr: str, **options: Any) -> ValidationFailed:
    """The error with which a schedule is refused."""
    with pytest.raises(ValidationFailed) as caught:
        parse_schedule(kind, expr, "UTC", START, options)
    assert caught.value.errors
    assert all(problem.detail and problem.code for problem in caught.value.errors)
    return caught.value
