"""Retry policy: who may retry, and how the waits grow."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.retry import LONGEST_ASKED, Backoff, RetryPolicy, delay_after, may_retry

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("on", "code", "retryable", "attempt", "expected"),
    [
        ((), "timeout", True, 1, True),
        ((), "rejected", False, 1, False),
        ((), "timeout", True, 3, False),
        (("rejected",), "rejected", False, 2, True),
        (("rejected",), "timeout", True, 1, False),
    ],
)
def test_may_retry(on: tuple[str, ...], code: str, retryable: bool, attempt: int, expected: bool) -> None:
    """Attempts left and the error class decide; a list of codes replaces the class's own say."""
    policy = RetryPolicy(max_attempts=3, on=frozenset(on))
    assert may_retry(policy, code, retryable, attempt) is expected


def test_default_policy_never_retries() -> None:
    """One attempt is the default."""
    assert not may_retry(RetryPolicy(), "timeout", retryable=True, attempt=1)


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [("fixed", [2, 2, 2, 2]), ("linear", [2, 4, 6, 8]), ("exponential", [2, 4, 8, 10])],
)
def test_growth(backoff: Backoff, waits: list[int]) -> None:
    """Each backoff grows as its name says, up to max_delay."""
    policy = RetryPolicy(backoff=backoff, delay=2 * SECOND, max_delay=10 * SECOND)
    assert [delay_after(policy, n, "run") for n in (1, 2, 3, 4)] == [w * SECOND for w in waits]


def test_known_jitter() -> None:
    """The jitter of a key is pinned: a change of the hash would move the retries of runs under way."""
    policy = RetryPolicy(delay=100 * SECOND, max_delay=1000 * SECOND)
    first, second = (delay_after(policy, n, "0197-run:step") for n in (1, 2))
    assert (round(first.total_seconds(), 3), round(second.total_seconds(), 3)) == (97.396, 152.242)


@given(st.text(), st.integers(1, 10_000))
def test_jitter_bounds(key: str, attempt: int) -> None:
    """A jittered wait lies between half and the whole of the plain one, and is the same each time."""
    plain = delay_after(RetryPolicy(backoff="exponential"), attempt, key)
    wait = delay_after(RetryPolicy(), attempt, key)
    assert plain / 2 <= wait <= plain
    assert wait == delay_after(RetryPolicy(), attempt, key)


def test_jitter_spreads() -> None:
    """A thousand runs that fail together do not come back together."""
    waits = {delay_after(RetryPolicy(), 1, f"run-{n}") for n in range(1000)}
    assert len(waits) > 990


def test_retry_after_is_a_floor() -> None:
    """The other side's wish is honoured above max_delay, and ignored when the own wait is longer."""
    policy = RetryPolicy(backoff="fixed", delay=5 * SECOND, max_delay=10 * SECOND)
    assert delay_after(policy, 1, "run", retry_after=60 * SECOND) == 60 * SECOND
    assert delay_after(policy, 1, "run", retry_after=SECOND) == 5 * SECOND


def test_nobody_is_waited_for_without_end() -> None:
    """What asks for more than a day is come back to after a day; a longer delay of one's own stands."""
    policy = RetryPolicy(backoff="fixed", delay=timedelta(days=2), max_delay=timedelta(days=3))
    assert delay_after(RetryPolicy(), 1, "run", retry_after=timedelta.max) == LONGEST_ASKED
    assert delay_after(policy, 1, "run", retry_after=timedelta.max) == timedelta(days=2)


@pytest.mark.parametrize("backoff", ["fixed", "linear", "exponential", "exponential_jitter"])
def test_huge_attempts_do_not_overflow(backoff: Backoff) -> None:
    """Delay times factor may exceed what timedelta holds; the answer is still max_delay or less."""
    policy = RetryPolicy(backoff=backoff, delay=timedelta(days=36_525), max_delay=timedelta(days=36_525))
    assert delay_after(policy, 10**9, "run") <= policy.max_delay


def test_zero_delay() -> None:
    """A delay of zero stays zero whatever the backoff."""
    assert delay_after(RetryPolicy(delay=timedelta(0)), 5, "run") == timedelta(0)
