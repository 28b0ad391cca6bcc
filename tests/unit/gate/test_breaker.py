"""The breaker: when it lets calls through, told the time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.gate.breaker import BUSY, FAILURES, TRIALS, Breaker
from tests.examples import examples


def call(breaker: Breaker, now: float, good: bool | None) -> None:
    assert breaker.wait(now) == 0
    breaker.leave(breaker.enter(), now, good)


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker(60)
    for _ in range(FAILURES):
        call(breaker, at, False)
    return breaker


def test_five_failures_in_a_row_open_it_for_a_minute() -> None:
    """A success between them starts the count anew; what says nothing counts as neither."""
    breaker = Breaker(60)
    for good in (False, False, False, False, True, False, None, False, False, False):
        call(breaker, 0, good)
    assert breaker.state(0) == "closed"
    call(breaker, 0, False)
    assert (breaker.state(0), breaker.wait(0)) == ("open", 60)
    assert (breaker.state(59), breaker.wait(59)) == ("open", 1)
    assert (breaker.state(60), breaker.wait(60)) == ("half_open", 0)


def test_three_good_calls_close_it_and_a_bad_one_opens_it_again() -> None:
    """The minute begins anew with the bad one."""
    breaker = opened()
    call(breaker, 60, True)
    call(breaker, 61, True)
    call(breaker, 62, False)
    assert breaker.wait(62) == 60
    for _ in range(TRIALS):
        assert breaker.state(130) == "half_open"
        call(breaker, 130, True)
    assert breaker.state(130) == "closed"
    for _ in range(FAILURES - 1):
        call(breaker, 131, False)
    assert breaker.state(131) == "closed"


def test_no_more_calls_are_under_way_than_may_be_needed() -> None:
    """Half open, the fourth waits; a call that says nothing gives its place back."""
    breaker = opened()
    eras = [breaker.enter() for _ in range(TRIALS)]
    assert breaker.wait(60) == BUSY
    breaker.leave(eras[0], 60, None)
    assert breaker.wait(60) == 0
    breaker.leave(eras[1], 60, True)
    breaker.leave(breaker.enter(), 60, True)
    assert breaker.wait(60) == BUSY
    breaker.leave(eras[2], 60, True)
    assert breaker.state(60) == "closed"


def test_what_began_before_it_turned_counts_no_more() -> None:
    """A slow failure from before does not open it again, a slow success does not close it."""
    breaker = Breaker(60)
    slow = [breaker.enter() for _ in range(FAILURES + TRIALS)]
    for era in slow[:FAILURES]:
        breaker.leave(era, 0, False)
    for era in slow[FAILURES:]:
        breaker.leave(era, 60, True)
    assert breaker.state(60) == "half_open"
    late = breaker.enter()
    call(breaker, 60, True)
    call(breaker, 60, False)
    breaker.leave(late, 61, True)
    assert breaker.wait(61) == 59


@given(st.lists(st.tuples(st.sampled_from([True, False, None]), st.integers(0, 70)), max_size=60))
@examples(100)
def test_it_always_comes_back(story: list[tuple[bool | None, int]]) -> None:
    """Whatever has happened: after the pause, three good calls are let through and close it."""
    breaker, now = Breaker(60), 0.0
    for good, pause in story:
        now += pause
        if breaker.wait(now) == 0:
            breaker.leave(breaker.enter(), now, good)
    now += 60
    for _ in range(TRIALS):
        call(breaker, now, True)
    assert breaker.state(now) == "closed"
