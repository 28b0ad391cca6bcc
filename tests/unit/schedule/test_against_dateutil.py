"""Property tests against python-dateutil, wherever it is right.

It is not where BYDAY mixes days with and without a number, nor for numbers that no month has (it finds
nothing, or fails), nor for weeks of a year that reach into another year, nor for BYSETPOS in DTSTART's own period.
So those are left to the slow oracle, and here rules are drawn without them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice

from dateutil.rrule import rrulestr
from hypothesis import given
from hypothesis import strategies as st

from engine.schedule import rruler
from engine.schedule.rule import WEEKDAYS, parse_rule
from tests.examples import examples

ENOUGH = 25
HORIZON = timedelta(days=366 * 4)


def listed(low: int, high: int, signed: bool = False, most: int = 4) -> st.SearchStrategy[str]:
    """Some numbers of a range, as a rule has them, perhaps from the end as well."""
    numbers = st.integers(low, high)
    either = numbers | numbers.map(lambda number: -number) if signed else numbers
    return st.lists(either, min_size=1, max_size=most, unique=True).map(
        lambda found: ",".join(map(str, found))
    )


plain_days = st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=4, unique=True).map(",".join)
numbered = st.lists(
    st.tuples(st.sampled_from([1, 2, 3, 4, 5, -1, -2, -5]), st.sampled_from(WEEKDAYS)),
    min_size=1, max_size=3, unique=True,
).map(lambda found: ",".join(f"{number}{day}" for number, day in found))  # fmt: skip
interval = st.just("1") | st.integers(1, 40).map(str)
clock = {"BYHOUR": listed(0, 23, most=2), "BYMINUTE": listed(0, 59, most=1)}
often = {"WKST": st.sampled_from(WEEKDAYS), "BYMONTH": listed(1, 12, most=6), **clock}
PARTS = {
    "DAILY": {**often, "BYMONTHDAY": listed(1, 31, True), "BYDAY": plain_days},
    "WEEKLY": {**often, "BYDAY": plain_days},
    "MONTHLY": {**often, "BYMONTHDAY": listed(1, 31, True), "BYDAY": plain_days | numbered},
    "YEARLY": {
        **often,
        "BYMONTHDAY": listed(1, 31, True),
        "BYDAY": plain_days | numbered,
        "BYYEARDAY": listed(1, 366, True, 30),
    },
}
drawn = st.sampled_from(sorted(PARTS)).flatmap(
    lambda freq: st.fixed_dictionaries({"FREQ": st.just(freq), "INTERVAL": interval}, optional=PARTS[freq])
)
texts = drawn.map(lambda parts: ";".join(f"{name}={value}" for name, value in parts.items()))
starts = st.datetimes(datetime(1980, 1, 1), datetime(2030, 1, 1)).map(
    lambda start: start.replace(microsecond=0)
)


@examples(25)
@given(texts, starts, st.none() | st.integers(1, 60), st.integers(0, HORIZON.days))
def test_rules_against_dateutil(text: str, start: datetime, count: int | None, later: int) -> None:
    """From DTSTART and from any later day on, the wall times are those that dateutil comes to."""
    end = start + HORIZON
    expected = list(rrulestr(f"{text};UNTIL={end:%Y%m%dT%H%M%S}", dtstart=start))[:count]
    calendar = rruler.prepare(parse_rule(f"{text};COUNT={count}" if count else text), start)
    for since in (start, start + timedelta(days=later)):
        wanted = [wall for wall in expected if wall >= since][:ENOUGH]
        found = [wall for wall in islice(rruler.walls(calendar, since), ENOUGH) if wall <= end]
        assert found == wanted
