"""The tick's plan as a pure function: every instant once, as a run or within a range."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import catchup
from engine.catchup import Catchup, Plan
from engine.schedule import Schedule, parse_schedule

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


@settings(max_examples=50, deadline=None)
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


def test_a_dense_backlog_is_told_in_few_ranges() -> None:
    """A year of seconds is one range without a count, then counted ones; the plan goes on from where it ended."""
    made = schedule("every", "1s")
    now = T0 + timedelta(days=365)
    next_run: datetime | None = made.next(T0)[0]
    ranges, runs = 0, []
    for _ in range(30):
        assert next_run is not None
        answer = catchup.plan(made, Catchup(), next_run, now, HORIZON)
        ranges += len(answer.ranges)
        runs += [instant for instant, _ in answer.runs]
        next_run = answer.next_run
        if next_run is not None and next_run > now + HORIZON:
            break
    assert ranges < 20
    assert sum(instant < now - GRACE for instant in runs) == 1
    assert next_run == now + HORIZON + SECOND


@pytest.mark.parametrize(
    ("policy", "expected"), [("none", GRACE), ("last", 2 * GRACE), ("all", timedelta(hours=1))]
)
def test_an_unstarted_run_expires_as_its_policy_says(policy: str, expected: timedelta) -> None:
    """none: after the grace; last: when the next instant replaces it; all: at the end of the window."""
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


def test_defaults_and_options() -> None:
    """Without `catchup` the last instant of a day runs; `max` and `window` are read as written."""
    assert Catchup.of({}, GRACE) == Catchup("last", timedelta(days=1), 100, GRACE)
    given_ = Catchup.of({"catchup": {"policy": "all", "max": 3, "window": "2h"}}, GRACE)
    assert given_ == Catchup("all", timedelta(hours=2), 3, GRACE)
