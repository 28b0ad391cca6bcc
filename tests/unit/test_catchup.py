"""The tick's plan as a pure function: every instant once, as a run or within a range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import catchup
from engine.catchup import Catchup, Plan
from engine.schedule import Schedule, parse_schedule
from tests.examples import examples

T0 = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
GRACE = HORIZON = 30 * SECOND
RULES: list[tuple[str, str]] = [
    ("every", "1s"),
    ("every", "7s"),
    ("cron", "* * * * *"),
    ("rrule", "FREQ=SECONDLY;INTERVAL=40"),
    ("rrule", "FREQ=MINUTELY;COUNT=30"),
    ("rrule", "FREQ=MINUTELY;UNTIL=20260302T120500Z"),
]


def schedule(kind: str, expr: str, start: datetime | None = T0) -> Schedule:
    return parse_schedule(kind, expr, "UTC", None if kind == "cron" else start, {})


def accounted(one: Plan, rule: Schedule) -> list[datetime]:
    """Every instant that the plan writes into the ledger, ranges spelt out."""
    found = [instant for instant, _ in one.runs]
    for part in one.ranges:
        inside = [i for i in rule.next(part.first - SECOND, 20_000) if part.first <= i <= part.last]
        assert part.count in (None, len(inside))
        found += inside
    return sorted(found)


@examples(20)
@given(
    rule=st.sampled_from(RULES),
    late=st.integers(-20, 4000),
    policy=st.sampled_from([{}, {"policy": "none"}, {"policy": "last"}, {"policy": "all", "max": 7}]),
    window=st.sampled_from(["10s", "5m", "1h"]),
)
def test_every_instant_is_planned_once(
    rule: tuple[str, str], late: int, policy: dict[str, Any], window: str
) -> None:
    """From next_run to the horizon nothing is lost or doubled, whatever the policy and however late the tick."""
    made = schedule(*rule)
    next_run, now = made.next(T0)[0], T0 + late * SECOND
    if next_run > now + HORIZON:
        return
    options = {"catchup": {"policy": "last", "window": window} | policy}
    answer = catchup.plan(made, Catchup.of(options, GRACE), next_run, now, HORIZON)
    found = accounted(answer, made)
    end = now + HORIZON
    expected = [instant for instant in made.next(next_run - SECOND, 5000) if next_run <= instant <= end]
    assert found == expected
    assert answer.next_run == next(iter(made.next(expected[-1])), None)
    allowed = {"none": 0, "last": 1, "all": 7}[options["catchup"]["policy"]]
    assert sum(instant < now - GRACE for instant, _ in answer.runs) <= allowed
    assert all(expires > instant for instant, expires in answer.runs)


@pytest.mark.parametrize("rule", [("every", "1s"), ("rrule", "FREQ=SECONDLY")])
def test_a_dense_backlog_is_one_range(rule: tuple[str, str]) -> None:
    """A year of seconds is planned at once; an interval is even counted, a rule is walked only so far."""
    made, now = schedule(*rule), T0 + timedelta(days=365)
    answer = catchup.plan(made, Catchup(), T0 + SECOND, now, HORIZON)
    (missed,) = answer.ranges
    assert missed.first == T0 + SECOND
    assert missed.count == (365 * 86_400 - 31 if rule[0] == "every" else None)
    assert [instant for instant, _ in answer.runs] == [now + n * SECOND for n in range(-30, 31)]
    assert answer.next_run == now + HORIZON + SECOND


class Counting(Schedule):
    """A schedule that counts how many instants were drawn from it."""

    drawn = 0

    def walk(self, after: datetime | None) -> Iterator[datetime]:
        for instant in Schedule.walk(self, after):
            type(self).drawn += 1
            yield instant


BURSTS = "FREQ=SECONDLY;BYMONTHDAY=1,2"


@pytest.mark.parametrize(
    ("expr", "catchup_", "bound"),
    [
        ("FREQ=DAILY", Catchup(), 10),
        ("FREQ=DAILY", Catchup("none"), 10),
        ("FREQ=SECONDLY", Catchup(), 700),
        ("FREQ=SECONDLY", Catchup("all", limit=100), 1200),
        (BURSTS, Catchup("all", window=timedelta(days=90), limit=100), 4000),
    ],
)
def test_a_plan_draws_few_instants(expr: str, catchup_: Catchup, bound: int) -> None:
    """Neither the age of a backlog nor a burst in it makes a plan walk through it."""
    stored = schedule("rrule", expr)
    Counting.drawn = 0
    counting = Counting(**{one.name: getattr(stored, one.name) for one in fields(stored)})
    now = T0 + timedelta(days=45)
    answer = catchup.plan(counting, catchup_, stored.next(T0)[0], now, HORIZON, countable=100)
    assert answer.ranges
    assert Counting.drawn <= bound + 100


@pytest.mark.parametrize(("policy", "expected"), [("none", GRACE), ("last", 2 * GRACE), ("all", 2 * GRACE)])
def test_an_unstarted_run_expires_as_its_policy_says(policy: str, expected: timedelta) -> None:
    """none: after the grace; the others: when enough instants have followed, or at the end of the window."""
    rule = Catchup(policy, timedelta(hours=1), grace=GRACE)
    assert rule.expiry(T0, T0 + 2 * GRACE) - T0 == expected
    assert rule.expiry(T0, None) - T0 == (GRACE if policy == "none" else timedelta(hours=1))


def test_last_is_never_replaced_within_its_grace() -> None:
    """A schedule denser than the grace still gives each run the grace to start in."""
    assert Catchup("last", grace=GRACE).expiry(T0, T0 + SECOND) == T0 + GRACE


def test_a_once_of_a_moment_ago_still_runs() -> None:
    """Whoever defines a task for this instant means it, although the request took a second; an hour is too late."""
    once = parse_schedule("once", "2026-03-02T12:00:00", "UTC", None, {})
    assert catchup.first_run(once, T0 + SECOND, GRACE) == T0
    assert catchup.first_run(once, T0 + timedelta(hours=1), GRACE) is None
    assert catchup.first_run(schedule("every", "10s"), T0, GRACE) == T0 + 10 * SECOND


def test_instants_that_began_are_left_out() -> None:
    """Planning anew after a change passes over what a worker had begun, and gaps leave it out of ranges."""
    made = schedule("every", "10s")
    begun = [T0 + 10 * SECOND, T0 + 30 * SECOND]
    assert catchup.first_run(made, T0, GRACE, begun) == T0 + 20 * SECOND
    found = catchup.gaps(made, T0, T0 + 50 * SECOND, begun, "suppressed", "why")
    assert [(one.first, one.last, one.count) for one in found] == [
        (T0 + 20 * SECOND, T0 + 20 * SECOND, 1),
        (T0 + 40 * SECOND, T0 + 50 * SECOND, 2),
    ]


def test_a_span_ends_before_its_end() -> None:
    """`until` itself is not in the range, so that it can run; an empty span is none."""
    made = schedule("every", "10s")
    found = catchup.span(made, T0 + 10 * SECOND, T0 + 30 * SECOND, "suppressed", "why")
    assert found
    assert (found.last, found.count) == (T0 + 20 * SECOND, 2)
    assert catchup.span(made, T0 + 30 * SECOND, T0 + 30 * SECOND, "suppressed", "why") is None
    assert catchup.span(made, None, T0, "suppressed", "why") is None


def test_of_all_only_so_many_wait() -> None:
    """An unstarted run goes when `max` instants have followed it, so that workers that were away meet no flood."""
    made, rule = schedule("cron", "* * * * *"), Catchup("all", limit=7, grace=GRACE)
    minute = timedelta(minutes=1)
    answer = catchup.plan(made, rule, T0, T0, HORIZON)
    assert answer.runs == ((T0, T0 + 7 * minute),)
    late = catchup.plan(made, rule, T0, T0 + 60 * minute, HORIZON)
    assert late.runs == tuple((T0 + n * minute, T0 + (n + 7) * minute) for n in range(54, 61))
    assert [one.count for one in late.ranges] == [54]


def test_of_few_each_has_its_window() -> None:
    """Where `max` instants do not fit into the window, the window ends first; after the last instant too."""
    hour = timedelta(hours=1)
    sparse = catchup.plan(schedule("every", "1h"), Catchup("all", 2 * hour), T0, T0, HORIZON)
    assert sparse.runs == ((T0, T0 + 2 * hour),)
    ending = schedule("rrule", "FREQ=MINUTELY;COUNT=2")
    over = catchup.plan(ending, Catchup("all", 2 * hour), T0, T0 + hour, HORIZON)
    assert over.runs == ((T0, T0 + 2 * hour), (T0 + hour / 60, T0 + hour / 60 + 2 * hour))
    assert over.next_run is None


def test_defaults_and_options() -> None:
    """Without `catchup` the last instant of a day runs; `max` and `window` are read as written."""
    assert Catchup.of({}, GRACE) == Catchup("last", timedelta(days=1), 100, GRACE)
    given_ = Catchup.of({"catchup": {"policy": "all", "max": 3, "window": "2h"}}, GRACE)
    assert given_ == Catchup("all", timedelta(hours=2), 3, GRACE)
