"""A schedule in words: golden sentences, and no sentence that two different schedules share."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from engine.errors import ValidationFailed
from engine.schedule import describe, parse_schedule

START = datetime(2026, 1, 1, 9)
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "expr", "words"),
    [
        ("rrule", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=8;BYMINUTE=30", "every weekday at 08:30"),
        ("cron", "30 8 * * 1-5", "every weekday at 08:30"),
        ("rrule", "FREQ=DAILY;BYDAY=SA,SU", "every Saturday and Sunday at 09:00"),
        ("rrule", "FREQ=DAILY;BYHOUR=9,17", "every day at 09:00 and 17:00"),
        ("rrule", "FREQ=DAILY;INTERVAL=2;COUNT=3", "every 2 days at 09:00, 3 times"),
        ("rrule", "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,SU", "every 2 weeks on Monday and Sunday at 09:00"),
        ("rrule", "FREQ=WEEKLY;INTERVAL=2;BYDAY=SU;WKST=SU",
         "every 2 weeks, weeks beginning on Sunday, on Sunday at 09:00"),
        ("rrule", "FREQ=MONTHLY;BYDAY=-1FR", "every month on the last Friday at 09:00"),
        ("rrule", "FREQ=YEARLY", "every year in January on day 1 at 09:00"),
        ("rrule", "FREQ=HOURLY;INTERVAL=3", "every 3 hours"),
        ("once", "2026-03-01T10:00", "once at 2026-03-01T10:00"),
        ("cron", "*/15 9-16 * * 1-5", "every 15 minutes from 09:00 to 16:59 on weekdays"),
        ("cron", "* * * * *", "every minute"),
        ("cron", "*/5 * * * *", "every 5 minutes"),
        ("cron", "0 * * * *", "every hour at minute 0"),
        ("cron", "30 * * * *", "every hour at minute 30"),
        ("cron", "0,30 * * * *", "every 30 minutes"),
        ("cron", "0 */2 * * *", "every 2 hours from 00:00 to 22:00"),
        ("cron", "30 */6 * * *", "every day at 00:30, 06:30, 12:30 and 18:30"),
        ("cron", "15 9-17 * * *", "every hour from 09:15 to 17:15"),
        ("cron", "*/10 8,12,18 * * 6,0",
         "every 10 minutes in the hours 8, 12 and 18 on Saturdays and Sundays"),
        ("cron", "0-29 9 * * *", "every hour at minutes 0 to 29 from 09:00 to 09:59"),
        ("cron", "5-59/10 * * * *", "every hour at minutes 5, 15, 25, 35, 45 and 55"),
        ("cron", "5 4 1 * *", "every month on day 1 at 04:05"),
        ("cron", "5 4 1,15 1,7 *", "every month on day 1 and 15 at 04:05, only in January and July"),
        ("cron", "0 0 1-7 * 1", "every month on day 1 to 7 and every Monday at 00:00"),
        ("cron", "0 0 */2 * 1", "by the cron line 0 0 */2 * 1"),
        ("cron", "0 0 1 * */2",
         "every month on day 1 if it is a Tuesday, Thursday, Saturday or Sunday at 00:00"),
        ("cron", "0 0 L * *", "every month on the last day at 00:00"),
        ("cron", "0 0 L-2 * *", "every month on the third last day at 00:00"),
        ("cron", "0 0 1,L * *", "every month on day 1 and the last day at 00:00"),
        ("cron", "0 9 * * 5#2", "every month on the second Friday at 09:00"),
        ("cron", "0 9 * * 5L", "every month on the last Friday at 09:00"),
        ("cron", "0 9 * * 1,5L", "every Monday and the last Friday at 09:00"),
        ("cron", "0 0 13 * 5", "every month on day 13 and every Friday at 00:00"),
        ("cron", "0 0 13 * 5#2", "every month on day 13 and the second Friday at 00:00"),
        ("cron", "*/15 * 13 * 5", "every 15 minutes on day 13 and every Friday of the month"),
        ("cron", "*/15 9-10 L * *", "every 15 minutes from 09:00 to 10:59 on the last day of the month"),
        ("cron", "*/20 * * * 5L", "every 20 minutes on the last Friday of the month"),
        ("cron", "0 12 * 6-8 *", "every day at 12:00, only in June, July and August"),
        ("cron", "0 22 * * 1-5", "every weekday at 22:00"),
        ("cron", "@monthly", "every month on day 1 at 00:00"),
        ("cron", "@yearly", "every month on day 1 at 00:00, only in January"),
        ("cron", "@hourly", "every hour at minute 0"),
        ("cron", "17,43 3 * * 2", "every Tuesday at 03:17 and 03:43"),
        ("cron", "7 0,3,5,9,11,14,17,21 * * *",
         "every day at minute 7 of the hours 0, 3, 5, 9, 11, 14, 17 and 21"),
        ("cron", "0 0 1-31 * 1", "every day at 00:00"),
        ("cron", "1,2,3,5,8,13,21,34 * * * *", "every hour at minutes 1, 2, 3, 5, 8, 13, 21 and 34"),
        ("cron", "0 9-17 * * 1-5", "every hour from 09:00 to 17:00 on weekdays"),
        ("cron", "* 9 * * *", "every minute from 09:00 to 09:59"),
        ("cron", "0 0 31 * *", "every month on day 31 at 00:00"),
        ("cron", "0 0 2-30/2 * *", "by the cron line 0 0 2-30/2 * *"),
        ("cron", "*/7 * * * *", "every hour at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56"),
        ("cron", "0 */5 * * *", "every day at 00:00, 05:00, 10:00, 15:00 and 20:00"),
        ("cron", "30 8 * 1 1-5", "every weekday at 08:30, only in January"),
        ("rrule", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
         "every month on the last weekday at 09:00"),
        ("rrule", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1,-1",
         "every month on the first and last weekday at 09:00"),
        ("rrule", "FREQ=MONTHLY;BYDAY=SA,SU;BYSETPOS=1", "every month on the first weekend day at 09:00"),
        ("rrule", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYSETPOS=-1",
         "every month on the last day at 09:00"),
        ("rrule", "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=1",
         "every month on the first Monday or Tuesday at 09:00"),
        ("rrule", "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=1;BYHOUR=9,10",
         "by the rule FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=1;BYHOUR=9,10"),
        ("rrule", "FREQ=YEARLY;BYMONTH=3;BYDAY=SU;BYSETPOS=-1",
         "every year on the last Sunday of March at 09:00"),
        ("rrule", "FREQ=YEARLY;BYMONTH=3,4;BYDAY=SU;BYSETPOS=-1",
         "by the rule FREQ=YEARLY;BYMONTH=3,4;BYDAY=SU;BYSETPOS=-1"),
        ("rrule", "FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1",
         "every year on the first weekday of the year at 09:00"),
        ("rrule", "FREQ=MONTHLY;INTERVAL=3;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
         "every 3 months on the second last weekday at 09:00"),
        ("rrule", "FREQ=MINUTELY;INTERVAL=15;BYHOUR=9,10,11,12,13,14,15,16;BYDAY=MO,TU,WE,TH,FR",
         "every 15 minutes from 09:00 to 16:59 on weekdays"),
        ("rrule", "FREQ=MINUTELY;INTERVAL=7;BYHOUR=9,10",
         "every 7 minutes, counted from the start, from 09:00 to 10:59"),
        ("rrule", "FREQ=HOURLY;BYMINUTE=0,30", "every hour at minutes 0 and 30"),
        ("rrule", "FREQ=HOURLY;BYHOUR=9,12,18;BYDAY=SA", "every hour in the hours 9, 12 and 18 on Saturdays"),
        ("rrule", "FREQ=HOURLY;INTERVAL=2;BYDAY=MO", "every 2 hours, counted from the start, on Mondays"),
        ("rrule", "FREQ=MINUTELY;BYMONTHDAY=1;BYHOUR=0",
         "every minute from 00:00 to 00:59 on day 1 of the month"),
        ("rrule", "FREQ=MINUTELY;BYMINUTE=3", "by the rule FREQ=MINUTELY;BYMINUTE=3"),
        ("rrule", "FREQ=SECONDLY;INTERVAL=30", "every 30 seconds"),
        ("rrule", "FREQ=DAILY;BYMONTH=6,7", "every day at 09:00, only in June and July"),
        ("rrule", "FREQ=DAILY;BYDAY=MO,TU,WE,TH,FR;BYMONTH=1", "every weekday at 09:00, only in January"),
        ("rrule", "FREQ=DAILY;BYMONTHDAY=13;BYDAY=FR", "every month on day 13 if it is a Friday at 09:00"),
        ("rrule", "FREQ=DAILY;INTERVAL=10;BYMONTHDAY=13", "by the rule FREQ=DAILY;INTERVAL=10;BYMONTHDAY=13"),
        ("rrule", "FREQ=WEEKLY;BYDAY=MO;BYMONTH=3", "every Monday at 09:00, only in March"),
        ("rrule", "FREQ=MONTHLY;BYMONTHDAY=1,15,-1", "every month on day 1 and 15 and the last day at 09:00"),
        ("rrule", "FREQ=MONTHLY;BYMONTHDAY=-2", "every month on the second last day at 09:00"),
        ("rrule", "FREQ=MONTHLY;BYMONTHDAY=13;BYDAY=FR", "every month on day 13 if it is a Friday at 09:00"),
        ("rrule", "FREQ=MONTHLY;BYDAY=MO", "every Monday at 09:00"),
        ("rrule", "FREQ=MONTHLY;BYDAY=1MO,3MO",
         "every month on the first Monday and the third Monday at 09:00"),
        ("rrule", "FREQ=MONTHLY;BYDAY=3MO,WE",
         "every month on every Wednesday and the third Monday at 09:00"),
        ("rrule", "FREQ=MONTHLY;BYMONTH=1,7;BYMONTHDAY=1",
         "every month on day 1 at 09:00, only in January and July"),
        ("rrule", "FREQ=YEARLY;BYYEARDAY=100,-1",
         "every year on day 100 and the last day of the year at 09:00"),
        ("rrule", "FREQ=YEARLY;BYWEEKNO=20", "every year in week 20 on Thursday at 09:00"),
        ("rrule", "FREQ=YEARLY;BYWEEKNO=1,2;BYDAY=MO", "every year in weeks 1 and 2 on Monday at 09:00"),
        ("rrule", "FREQ=YEARLY;BYDAY=20MO", "every year on the 20th Monday of the year at 09:00"),
        ("rrule", "FREQ=YEARLY;BYDAY=MO", "every Monday at 09:00"),
        ("rrule", "FREQ=YEARLY;BYMONTHDAY=1", "every year on day 1 of every month at 09:00"),
        ("rrule", "FREQ=YEARLY;BYMONTH=11;BYDAY=4TH",
         "every year in November on the fourth Thursday at 09:00"),
        ("rrule", "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
         "every 4 years in November on day 2 to 8 if it is a Tuesday at 09:00"),
        ("rrule", "FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,15,30,45",
         "every day, every 15 minutes from 09:00 to 16:59"),
        ("rrule", "FREQ=DAILY;BYHOUR=0,6,12,18;UNTIL=20270101T000000Z",
         "every day at 00:00, 06:00, 12:00 and 18:00, until 2027-01-01T00:00:00+00:00"),
    ],
)  # fmt: skip
def test_calendar_kinds_in_words(kind: str, expr: str, words: str) -> None:
    """What has a short true sentence gets one, the rest its own text; both name the zone."""
    said = describe(parse_schedule(kind, expr, "Europe/Chisinau", START, {}))
    assert said == f"{words}, Europe/Chisinau"


@pytest.mark.parametrize(
    ("kind", "expr", "words"),
    [
        ("every", "PT15M", "every 15m"),
        ("condition", "60s", "when a probe made every 1m turns true"),
        ("event", "email.*", "on every event that matches email.*"),
        ("manual", "", "on request only"),
    ],
)
def test_other_kinds_in_words(kind: str, expr: str, words: str) -> None:
    """What has no calendar names no zone."""
    assert describe(parse_schedule(kind, expr, "Europe/Chisinau", START, {})) == words


def test_words_name_what_is_added_and_excluded() -> None:
    """Dates beside the rule and its end are mentioned, for intervals, too."""
    options = {"exdates": ["2026-05-01"], "rdates": ["2026-05-02", "2026-05-03"], "end": "2027-01-01"}
    words = describe(parse_schedule("cron", "@daily", "UTC", START, options))
    assert words == "every day at 00:00, not after 2027-01-01, UTC (2 dates added, 1 date excluded)"
    words = describe(parse_schedule("every", "1h", "UTC", START, {"exdates": ["2026-05-01"]}))
    assert words == "every 1h (1 date excluded)"


def test_a_text_of_several_lines_is_shown_as_it_is() -> None:
    """A rule with exclusions of its own has no short sentence."""
    text = "RRULE:FREQ=DAILY;COUNT=9\nEXDATE:20260103T090000"
    words = describe(parse_schedule("rrule", text, "UTC", START, {}))
    assert words == "by the rule RRULE:FREQ=DAILY;COUNT=9 EXDATE:20260103T090000, UTC"


FIELDS = (
    "0 30 */15 * 5-59/10 0,30 0-29 1,2,3 */7 0-58/2 0,15,30 59",
    "* 9 9-16 */2 8,12 */5 1-23/2 0-23 9-17/2 0,23",
    "* 1 1,15 L L-1 1-7 */2 13 31 1-31 29,30,L 1,L-1",
    "* 1 6-8 */3 2 1-12",
    "* 1-5 1 0 7 6,0 */2 5#2 5L 1,5L 0-6 1-5,6",
)
PARTS = {
    "INTERVAL": "2 3 7 15",
    "BYDAY": "MO MO,FR MO,TU,WE,TH,FR SA,SU -1FR 2MO,3MO MO,TU,WE,TH,FR,SA,SU 3MO,WE",
    "BYMONTHDAY": "1 15 -1 1,15 -2 1,-1 2,3,4,5,6,7,8",
    "BYMONTH": "1 3,4 1,2,3,4,5,6,7,8,9,10,11,12",
    "BYHOUR": "9 9,10,11,12 8,12 0,6,12,18",
    "BYMINUTE": "0 0,30 0,15,30,45 3",
    "BYSETPOS": "1 -1 1,-1 2",
    "BYYEARDAY": "1 100 -1",
    "BYWEEKNO": "20 1,2 -1",
    "WKST": "SU MO",
    "COUNT": "3 5",
}


def a_cron_line(chance: random.Random) -> tuple[str, str]:
    """One item of each field."""
    return "cron", " ".join(chance.choice(field.split()) for field in FIELDS)


def a_rule(chance: random.Random) -> tuple[str, str]:
    """A frequency with some of the parts; not every one is valid."""
    freq = chance.choice(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY"])
    chosen = [name for name in PARTS if chance.random() < 0.25]
    parts = [f"{name}={chance.choice(PARTS[name].split())}" for name in chosen]
    return "rrule", ";".join([f"FREQ={freq}", *parts])


@pytest.mark.parametrize("make", [a_cron_line, a_rule])
def test_two_schedules_that_are_described_alike_fire_alike(
    make: Callable[[random.Random], tuple[str, str]],
) -> None:
    """No sentence claims less or more than one schedule does: whoever shares it has the same instants."""
    chance = random.Random(5545)
    known: dict[str, tuple[str, list[datetime]]] = {}
    described = 0
    for _ in range(700):
        kind, expr = make(chance)
        try:
            schedule = parse_schedule(kind, expr, "UTC", START, {})
        except ValidationFailed:
            continue
        words = describe(schedule)
        instants = schedule.next(SINCE, 60)
        other, others = known.setdefault(words, (expr, instants))
        assert instants == others, f"{words!r} stands for {other!r} and for {expr!r}"
        described += not words.startswith("by the ")
    assert described > 200
