"""What the next occurrence costs, against the age of DTSTART, beside python-dateutil and croniter.

    python -m tests.load.seek [--calls 300] [--rounds 5]

One line per kind of rule: p50 and p99 of `occurrences(..., after, 1)` in µs for a DTSTART one day, ten years
and thirty years before the first question, and the ratio of the oldest p50 to the youngest. The questions are
spread over a month in which clocks change, and all have been asked once before. The thread's CPU time is
counted, and the best of several rounds taken, the ages in turns. The reference answers the first question in
naive time: dateutil's `rrule.after`, which walks up from DTSTART ("-" where that takes minutes or comes to a
wrong answer), and for cron lines croniter, which has no DTSTART.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module, util

from dateutil.rrule import rrulestr

from engine.schedule import occurrences

ZONE = "Europe/Berlin"
BEGIN = datetime(2026, 3, 10, 11, 7, tzinfo=UTC)  # clocks go forward on the 29th
SPAN = timedelta(days=30)
AGES = {"1 day": timedelta(days=1), "10 y": timedelta(days=3653), "30 y": timedelta(days=10957)}
WORKDAYS = "MO,TU,WE,TH,FR"
HOURS, SIXTY = (",".join(map(str, range(size))) for size in (24, 60))
DENSE = (  # a reference takes minutes
    f"RRULE:FREQ=MINUTELY\nEXRULE:FREQ=MINUTELY;BYMONTH={','.join(str(month) for month in range(1, 12))}",
    f"RRULE:FREQ=SECONDLY\nEXRULE:FREQ=SECONDLY;BYHOUR={','.join(str(hour) for hour in range(24) if hour != 9)}",
    f"FREQ=DAILY;BYHOUR={HOURS};BYMINUTE={SIXTY};BYSECOND={SIXTY}",
)
RULES = (
    "FREQ=DAILY",
    "FREQ=DAILY;INTERVAL=3;BYHOUR=7,12,18",
    "FREQ=DAILY;BYMONTH=1,6",
    f"FREQ=DAILY;INTERVAL=2;BYDAY={WORKDAYS}",
    "FREQ=DAILY;INTERVAL=97;BYMONTHDAY=13;BYDAY=FR",
    f"FREQ=WEEKLY;BYDAY={WORKDAYS};BYHOUR=8",
    "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH;BYMONTH=2,3,9",
    "FREQ=MONTHLY",
    "FREQ=MONTHLY;BYDAY=-1FR",
    "FREQ=MONTHLY;BYDAY=3MO,WE,FR",
    f"FREQ=MONTHLY;BYDAY={WORKDAYS};BYSETPOS=-1",
    "FREQ=MONTHLY;BYMONTHDAY=13;BYDAY=FR",
    "FREQ=MONTHLY;INTERVAL=7;BYMONTHDAY=31;BYMONTH=7,8",
    "FREQ=MONTHLY;BYMONTHDAY=1,15,-1;COUNT=100000",
    "FREQ=YEARLY",
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO",
    "FREQ=YEARLY;BYDAY=20MO,-1FR",
    "FREQ=YEARLY;BYYEARDAY=1,100,-1;INTERVAL=3",
    "FREQ=YEARLY;BYWEEKNO=1,20,-1;BYDAY=MO",
    "RRULE:FREQ=DAILY\nEXDATE:20260311T090000,20260312T090000",
    "RRULE:FREQ=DAILY\nEXRULE:FREQ=WEEKLY;BYDAY=SA,SU",
    *DENSE,
    "FREQ=HOURLY;INTERVAL=5",
    f"FREQ=HOURLY;BYDAY={WORKDAYS};BYHOUR=9,13,17;BYMINUTE=0,30",
    "FREQ=HOURLY;INTERVAL=7;BYHOUR=9;COUNT=10000",
    "FREQ=MINUTELY;INTERVAL=15",
    "FREQ=MINUTELY;BYHOUR=9;BYDAY=MO;BYMONTH=6",
    "FREQ=SECONDLY;INTERVAL=30;BYMINUTE=0,30",
)
LINES = ("30 8 * * 1-5", "*/5 * * * *", "0 9 13 * 5", "0 0 29 2 *", "15 10 L * *", "0 12 * * FRI#2")
UNTRUE = ("FREQ=MONTHLY;BYDAY=3MO,WE,FR",)  # dateutil finds nothing, or not the day
Call = Callable[[], object]


def asked() -> list[tuple[str, str]]:
    """Kind and text of every row."""
    return [*(("rrule", text) for text in RULES), ("every", "15m"), *(("cron", line) for line in LINES)]


def quantiles(calls: Sequence[Call]) -> tuple[float, float]:
    """p50 and p99 of the calls, µs."""
    took = []
    for call in calls:
        begun = time.thread_time_ns()
        call()
        took.append((time.thread_time_ns() - begun) / 1000)
    took.sort()
    return took[len(took) // 2], took[len(took) * 99 // 100]


def best(batches: Sequence[Sequence[Call]], rounds: int) -> list[tuple[float, float]]:
    """The lowest p50 and p99 of each batch over several rounds, after one that warms the caches."""
    seen = [[quantiles(calls) for calls in batches] for _ in range(rounds + 1)][1:]
    return [(min(p50 for p50, _ in batch), min(p99 for _, p99 in batch)) for batch in zip(*seen, strict=True)]


def ours(kind: str, text: str, age: timedelta, calls: int) -> list[Call]:
    """Questions spread over the span."""
    start = (BEGIN - age).replace(tzinfo=None, hour=9, minute=0)
    afters = [BEGIN + SPAN * number / calls for number in range(calls)]
    return [partial(occurrences, kind, text, ZONE, start, after, 1) for after in afters]


def reference(kind: str, text: str, age: timedelta) -> Call | None:
    """The first question put to another library; None where it cannot be, or would take too long."""
    after = BEGIN.replace(tzinfo=None)
    if kind == "cron" and util.find_spec("croniter"):
        return lambda: import_module("croniter").croniter(text, after).get_next(datetime)
    slow = age > AGES["1 day"] and any(unit in text for unit in ("HOURLY", "MINUTELY", "SECONDLY"))
    if kind != "rrule" or slow or text in (*UNTRUE, *DENSE):
        return None
    start = (BEGIN - age).replace(tzinfo=None, hour=9, minute=0)
    rule = rrulestr(text, dtstart=start)
    return lambda: rule.after(after)


def row(kind: str, text: str, calls: int, rounds: int) -> str:
    """One line of the table."""
    figures = best([ours(kind, text, age, calls) for age in AGES.values()], rounds)
    others = [reference(kind, text, AGES[age]) for age in ("1 day", "30 y")]
    theirs = [f"{best([[call]], min(rounds, 3))[0][0]:>10.0f}" if call else f"{'-':>10}" for call in others]
    name = text.replace("FREQ=", "").replace("RRULE:", "").replace("\n", " ")
    cells = "".join(f"{p50:>7.0f}{p99:>6.0f}" for p50, p99 in figures)
    return f"{name[:51]:<52}{cells}{figures[-1][0] / figures[0][0]:>7.2f}{''.join(theirs)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=300, help="questions per rule and age")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    if not util.find_spec("croniter"):
        print("croniter is not installed: its cells are empty")
    ages = "".join(f"{age:>7}{'p99':>6}" for age in AGES)
    print(f"{'µs per next occurrence, p50 and p99':<52}{ages}{'ratio':>7}{'ref. 1 d':>10}{'ref. 30 y':>10}")
    for kind, text in asked():
        print(row(kind, text, given.calls, given.rounds), flush=True)


if __name__ == "__main__":
    main()
