"""The judgement of dedupe keys, held against one that compares every pair."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from engine.store.dedupe import Claim, Hold, judge

T0 = datetime(2026, 3, 2, 12, tzinfo=UTC)
TASK, RUN = UUID(int=1), UUID(int=2)
SECONDS = st.integers(0, 60)


def at(second: int) -> datetime:
    """An instant of the test's minute."""
    return T0 + timedelta(seconds=second)


def claims(seconds: Sequence[int], window: int | None, key: str = "k") -> list[Claim]:
    """Claims of one key in order."""
    apart = None if window is None else timedelta(seconds=window)
    return [Claim(TASK, key, at(second), apart) for second in sorted(seconds)]


@given(st.lists(SECONDS), st.lists(SECONDS), st.integers(1, 30))
def test_a_claim_is_let_in_if_nothing_is_within_its_window(
    asked: list[int], held: list[int], window: int
) -> None:
    """As if every pair were compared; and what stands is within the window of what it stands for."""
    found = judge(claims(asked, window), {(TASK, "k"): [Hold(at(second), RUN) for second in sorted(held)]})
    standing = list(held)
    for second, answer in zip(sorted(asked), found, strict=True):
        near = [one for one in standing if abs(one - second) < window]
        assert (answer is None) is (not near)
        if answer is None:
            standing.append(second)
        else:
            assert abs(answer.at - at(second)) < timedelta(seconds=window)


@given(st.lists(SECONDS, min_size=1), st.booleans())
def test_without_a_window_the_first_stands_for_all(asked: list[int], live: bool) -> None:
    """While any run is live nothing is let in; otherwise the first claim is, and stands for the rest."""
    found = judge(claims(asked, None), {(TASK, "k"): [Hold(T0, RUN)] if live else []})
    assert [answer is None for answer in found] == [not live] + [False] * (len(asked) - 1)


def test_keys_do_not_know_of_each_other() -> None:
    """Claims of two keys in one go are judged apart, and the holds handed in stay as they are."""
    holds: dict[tuple[UUID, str], list[Hold]] = {(TASK, "a"): [Hold(T0, RUN)]}
    found = judge([*claims([1, 2], 5, "a"), *claims([1, 2], 5, "b")], holds)
    assert [answer and answer.run_id for answer in found] == [RUN, RUN, None, None]
    assert found[3] == Hold(at(1)), "let in a moment ago, without an id yet"
    assert holds == {(TASK, "a"): [Hold(T0, RUN)]}
