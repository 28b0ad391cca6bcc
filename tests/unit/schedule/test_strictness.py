"""What a schedule refuses: every wrong text is an error with a reason, found at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from engine.errors import ValidationFailed
from engine.schedule import elapsed, occurrences, parse_schedule, schedules
from engine.schedule.content import parse_content
from engine.schedule.zones import load_zone

START = datetime(2026, 1, 1)

INVALID_RULES = [
    ("", "no rule"), ("RRULE:", "NAME=VALUE"), ("DAILY", "NAME=VALUE"), ("INTERVAL=2", "no FREQ"),
    ("FREQ=", "NAME=VALUE"), ("FREQ=FORTNIGHTLY", "must be one of"), ("FREQ=DAILY;FREQ=DAILY", "twice"),
    ("FREQ=DAILY;", "NAME=VALUE"), (";FREQ=DAILY", "NAME=VALUE"), ("FREQ=DAILY;;COUNT=2", "NAME=VALUE"),
    ("FREQ=DAILY; COUNT=2", "not a part"), ("FREQ=DAILY;COUNT", "NAME=VALUE"), ("FREQ=DAILY;COUNT=0", "COUNT"),
    ("FREQ=DAILY;COUNT=-1", "COUNT"), ("FREQ=DAILY;COUNT=1.5", "COUNT"), ("FREQ=DAILY;COUNT=x", "COUNT"),
    ("FREQ=DAILY;COUNT=999999999", "COUNT"), ("FREQ=DAILY;COUNT=2;UNTIL=20300101T000000Z", "exclude each other"),
    ("FREQ=DAILY;INTERVAL=0", "INTERVAL"), ("FREQ=DAILY;INTERVAL=-1", "INTERVAL"),
    ("FREQ=DAILY;INTERVAL=+2", "INTERVAL"),
    ("FREQ=DAILY;INTERVAL=1000000", "INTERVAL"), ("FREQ=YEARLY;INTERVAL=401", "more than 400"),
    ("FREQ=DAILY;INTERVAL=٢", "not an ASCII character"), ("FREQ=DAILY;BYHOUR=24", "from 0 to 23"),
    ("FREQ=DAILY;BYHOUR=-1", "from 0 to 23"), ("FREQ=DAILY;BYHOUR=9,", "BYHOUR"), ("FREQ=DAILY;BYHOUR=,9", "BYHOUR"),
    ("FREQ=DAILY;BYHOUR=9:30", "BYHOUR"), ("FREQ=DAILY;BYHOUR=9 ;COUNT=2", "BYHOUR"),
    ("FREQ=DAILY;BYMINUTE=60", "from 0 to 59"),
    ("FREQ=DAILY;BYSECOND=61", "from 0 to 60"), ("FREQ=DAILY;BYMONTH=0", "from 1 to 12"),
    ("FREQ=DAILY;BYMONTH=13", "from 1 to 12"), ("FREQ=DAILY;BYMONTH=-1", "from 1 to 12"),
    ("FREQ=DAILY;BYMONTH=JAN", "BYMONTH"),
    ("FREQ=MONTHLY;BYMONTHDAY=0", "BYMONTHDAY"), ("FREQ=MONTHLY;BYMONTHDAY=32", "BYMONTHDAY"),
    ("FREQ=MONTHLY;BYMONTHDAY=-32", "BYMONTHDAY"), ("FREQ=WEEKLY;BYMONTHDAY=1", "WEEKLY"),
    ("FREQ=YEARLY;BYYEARDAY=0", "BYYEARDAY"), ("FREQ=YEARLY;BYYEARDAY=367", "BYYEARDAY"),
    ("FREQ=DAILY;BYYEARDAY=1", "DAILY"), ("FREQ=WEEKLY;BYYEARDAY=1", "WEEKLY"),
    ("FREQ=MONTHLY;BYYEARDAY=1", "MONTHLY"),
    ("FREQ=YEARLY;BYWEEKNO=0", "BYWEEKNO"), ("FREQ=YEARLY;BYWEEKNO=54", "BYWEEKNO"),
    ("FREQ=MONTHLY;BYWEEKNO=1", "YEARLY"),
    ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=1MO", "BYWEEKNO"), ("FREQ=WEEKLY;BYDAY=XX", "BYDAY"),
    ("FREQ=WEEKLY;BYDAY=MON", "BYDAY"),
    ("FREQ=WEEKLY;BYDAY=1MO", "MONTHLY or YEARLY"), ("FREQ=DAILY;BYDAY=-1FR", "MONTHLY or YEARLY"),
    ("FREQ=MONTHLY;BYDAY=0MO", "BYDAY"), ("FREQ=MONTHLY;BYDAY=54MO", "BYDAY"), ("FREQ=MONTHLY;BYDAY=MO1", "BYDAY"),
    ("FREQ=WEEKLY;BYDAY=MO TU", "BYDAY"), ("FREQ=DAILY;WKST=1", "WKST"), ("FREQ=DAILY;WKST=MO,TU", "WKST"),
    ("FREQ=MONTHLY;BYSETPOS=1", "BYSETPOS"), ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=0", "BYSETPOS"),
    ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=367", "BYSETPOS"), ("FREQ=DAILY;BYEASTER=1", "not a part"),
    ("FREQ=DAILY;RSCALE=GREGORIAN", "not a part"), ("FREQ=DAILY;BYDAYS=MO", "Did you mean 'BYDAY'"),
    ("FREQ=DAILY;UNTIL=2026", "not a date-time"), ("FREQ=DAILY;UNTIL=20261301T000000Z", "no date"),
    ("FREQ=DAILY;UNTIL=20260230T000000Z", "no date"), ("FREQ=DAILY;UNTIL=20260101T250000Z", "no date"),
    ("FREQ=DAILY;UNTIL=2026-12-31", "not a date-time"), ("FREQ=DAILY;UNTIL=tomorrow", "not a date-time"),
    ("FREQ=DAILY;UNTIL=99991231T000000Z", "outside"), ("FREQ=DAILY;X-NAME=1", "not a part"),
    ("FREQ=DAILY\nFREQ=DAILY;COUNT=x", "COUNT"), ("RRULE:FREQ=DAILY\nDURATION:PT1H", "not a property"),
    ("BEGIN:VEVENT\nRRULE:FREQ=DAILY\nEND:VEVENT", "not a property"), ("DTSTART:20260101T000000", "no rule"),
    ("DTSTART:20260101\nRRULE:FREQ=DAILY", "VALUE=DATE"),
    ("DTSTART;TZID=Nowhere:20260101T000000\nRRULE:FREQ=DAILY", "time zone"),
    ("DTSTART;TZID=Europe/Berlin:20260101T000000Z\nRRULE:FREQ=DAILY", "TZID"),
    ("DTSTART:20260101T000000\nDTSTART:20260101T000000\nRRULE:FREQ=DAILY", "once"),
    ("DTSTART;FOO=1:20260101T000000\nRRULE:FREQ=DAILY", "parameter"),
    ("DTSTART;TZID=Europe/Berlin:20260101T000000\nRRULE:FREQ=DAILY;UNTIL=20270101T000000", "must be in UTC"),
    ("DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=DAILY;UNTIL=20270101T000000Z", "must be a date"),
    ("RRULE;TZID=UTC:FREQ=DAILY", "no parameters"),
    ("RRULE:FREQ=DAILY\nEXDATE;VALUE=PERIOD:20260101T000000Z/PT1H", "VALUE"),
    ("\n".join(["RRULE:FREQ=DAILY"] * 11), "more than 10"), ("FREQ=DAILY;BYHOUR=" + "1," * 3000 + "1", "longer"),
    ("RRULE:FREQ=DAILY\nRDATE:" + ",".join(["20260101T000000Z"] * 990), "longer"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), INVALID_RULES, ids=[text[-50:] for text, _ in INVALID_RULES])
def test_invalid_rules(text: str, reason: str) -> None:
    """Each invalid rule is refused for its own reason, in a message of readable length."""
    with pytest.raises(ValidationFailed) as caught:
        parse_schedule("rrule", text, "Europe/Chisinau", START, {})
    assert reason in caught.value.message
    assert len(caught.value.message) < 400
    assert caught.value.errors


def test_all_problems_of_a_rule_come_together() -> None:
    """Three slips in one rule are three problems, each with the line it stands on."""
    text = "EXDATE:20260101T000000Z\nRRULE:FREQ=DAILY;BYHOUR=24;COUNT=0;BYDAYS=MO"
    with pytest.raises(ValidationFailed) as caught:
        parse_schedule("rrule", text, "UTC", START, {})
    assert len(caught.value.errors) == 3
    assert {problem.line for problem in caught.value.errors} == {2}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "5 fields"), ("* * * *", "5 fields"), ("0 0 * * * *", "seconds and years"), ("60 * * * *", "minute"),
        ("* 24 * * *", "hour"), ("* * 0 * *", "day-of-month"), ("* * 32 * *", "day-of-month"),
        ("* * * 13 *", "month"),
        ("* * * 0 *", "month"), ("* * * * 8", "day-of-week"), ("*/0 * * * *", "step"), ("*/90 * * * *", "step"),
        ("5-1 * * * *", "backwards"), ("* * * * FRI-MON", "backwards"), ("a * * * *", "minute"),
        ("1,,2 * * * *", "minute"),
        ("1- * * * *", "minute"), ("-1 * * * *", "minute"), ("* * * FOO *", "JAN"), ("* * * * FOO", "SUN"),
        ("* * 15W * *", "day-of-month"), ("* * ? * *", "day-of-month"), ("* * L-31 * *", "first day"),
        ("* * * * MON#6", "day-of-week"),
        ("* * * * MON#0", "day-of-week"), ("* * * * L", "day-of-week"), ("@reboot", "macro"),
        ("@dayly", "Did you mean '@daily'"),
        ("@every 5m", "macro"), ("0 0 30 2 *", "never fires"), ("0 0 31 4,6,9,11 *", "never fires"),
        ("0 0 L-30 2 *", "never fires"), ("* " * 400, "longer"), ("１ * * * *", "ASCII"),
    ],
)  # fmt: skip
def test_invalid_cron(line: str, reason: str) -> None:
    """Each invalid cron line is refused for its own reason."""
    with pytest.raises(ValidationFailed) as caught:
        parse_schedule("cron", line, "UTC", START, {})
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("kind", "expr", "zone", "options", "pointer"),
    [
        ("crn", "* * * * *", "UTC", {}, "/kind"),
        ("cron", None, "UTC", {}, "/expr"),
        ("cron", "* * * * *", "Europe/Kishinau", {}, "/timezone"),
        ("cron", "* * * * *", "../etc/passwd", {}, "/timezone"),
        ("cron", "* * * * *", "", {}, "/timezone"),
        ("cron", "* * * * *", "UTC", {"gaps": "skip"}, "/gaps"),
        ("cron", "* * * * *", "UTC", {"gap": "jump"}, "/gap"),
        ("cron", "* * * * *", "UTC", {"fold": None}, "/fold"),
        ("cron", "* * * * *", "UTC", {"exdates": "2026-01-01"}, "/exdates"),
        ("cron", "* * * * *", "UTC", {"exdates": ["2026-01-01", "soon"]}, "/exdates/1"),
        ("cron", "* * * * *", "UTC", {"rdates": [5]}, "/rdates/0"),
        ("cron", "* * * * *", "UTC", {"end": "never"}, "/end"),
        ("every", "0s", "UTC", {}, ""),
        ("every", "100ms", "UTC", {}, ""),
        ("every", "soon", "UTC", {}, ""),
        ("once", "2026-01-01", "UTC", {}, ""),
        ("once", "yesterday", "UTC", {}, ""),
        ("once", "1066-10-14T09:00", "UTC", {}, ""),
        ("event", "", "UTC", {}, ""),
        ("event", "a b", "UTC", {}, ""),
        ("event", "email..x", "UTC", {}, ""),
        ("manual", "@daily", "UTC", {}, ""),
    ],
)
def test_invalid_others(kind: str, expr: Any, zone: str, options: dict[str, Any], pointer: str) -> None:
    """Wrong kinds, zones, options and texts are refused where they stand."""
    with pytest.raises(ValidationFailed) as caught:
        parse_schedule(kind, expr, zone, START, options)
    assert [problem.pointer for problem in caught.value.errors] == [pointer]


def test_unknown_zone_gets_a_suggestion() -> None:
    """A misspelt zone is answered with the nearest one; UTC is a zone."""
    with pytest.raises(ValidationFailed, match="Did you mean 'Europe/Chisinau'"):
        parse_schedule("cron", "@daily", "europe/chisinau", None, {})
    assert parse_schedule("cron", "@daily", "UTC", None, {}).timezone == "UTC"


NEVER = [
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=31", "FREQ=DAILY;INTERVAL=7;BYDAY=TU", "FREQ=MONTHLY;INTERVAL=12;BYMONTH=2",
    "FREQ=MONTHLY;BYDAY=6MO", "FREQ=YEARLY;BYYEARDAY=366;BYMONTH=1", "FREQ=YEARLY;BYDAY=53MO;BYMONTH=1",
    "FREQ=YEARLY;INTERVAL=2;BYMONTH=2;BYMONTHDAY=29;COUNT=3\nDTSTART:20270101T000000",
    "FREQ=YEARLY;BYWEEKNO=20;BYMONTH=1", "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=6", "FREQ=DAILY;BYHOUR=9;BYSETPOS=2",
    "FREQ=WEEKLY;BYDAY=MO;BYSETPOS=-2", "FREQ=MINUTELY;INTERVAL=2;BYMINUTE=1", "FREQ=SECONDLY;INTERVAL=2;BYSECOND=1",
    "FREQ=SECONDLY;INTERVAL=60;BYSECOND=1", "FREQ=SECONDLY;INTERVAL=3600;BYMINUTE=1",
    "FREQ=SECONDLY;BYSECOND=1;BYSETPOS=2", "FREQ=DAILY;UNTIL=20200101T000000Z",
    "RRULE:FREQ=DAILY\nEXRULE:FREQ=DAILY", "RRULE:FREQ=SECONDLY\nEXRULE:FREQ=SECONDLY",
    "RRULE:FREQ=YEARLY\nEXRULE:FREQ=SECONDLY", "RRULE:FREQ=DAILY;COUNT=1\nEXDATE:20260101T000000",
]  # fmt: skip


@pytest.mark.parametrize("text", NEVER)
def test_rules_that_never_fire(text: str) -> None:
    """A rule without any occurrence is refused at definition."""
    with pytest.raises(ValidationFailed) as caught:
        parse_schedule("rrule", text, "UTC", START, {})
    assert caught.value.errors[0].code == "never_fires"


def test_search_budgets_bound_the_work() -> None:
    """The two searches that count steps stop at their budgets, not at the calendar's end."""
    rule = elapsed.prepare(
        parse_content("FREQ=MINUTELY;INTERVAL=2;BYMINUTE=1").rules[0],
        START,
        START.replace(tzinfo=UTC),
        load_zone("UTC"),
    )
    assert list(elapsed.instants(rule, START.replace(tzinfo=UTC))) == []
    text = "RRULE:FREQ=MINUTELY\nEXRULE:FREQ=MINUTELY"
    assert schedules.restore_schedule("rrule", text, "UTC", START).next(None) == []


def test_excluded_and_ended_options_never_fire() -> None:
    """Exdates that take the only occurrence, or an end before the first, leave nothing: refused."""
    for options in ({"exdates": ["2026-05-01"]}, {"end": "2026-04-30"}):
        with pytest.raises(ValidationFailed, match="never fires"):
            parse_schedule("once", "2026-05-01T09:00", "UTC", START, options)


def test_questions_are_checked() -> None:
    """A naive `after` and a senseless limit are refused."""
    for after, limit in ((START, 1), (None, -1), (None, 10**9)):
        with pytest.raises(ValidationFailed):
            occurrences("cron", "@daily", "UTC", START, after, limit)
    assert occurrences("cron", "@daily", "UTC", START, None, 0) == []


@pytest.mark.parametrize("year", [1, 1500, 9999])
def test_far_questions_are_answered(year: int) -> None:
    """Asked from the ends of the calendar, a schedule answers with its first instants or with none."""
    found = occurrences("cron", "@daily", "Pacific/Apia", START, datetime(year, 12, 31, 23, tzinfo=UTC), 1)
    assert found == ([] if year == 9999 else [datetime(2025, 12, 31, 11, tzinfo=UTC)])
