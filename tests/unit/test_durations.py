"""Durations: every accepted form, every refusal, and the way back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.durations import MAX_DURATION, format_duration, parse_duration
from engine.errors import ValidationFailed


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15m", 900),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        (" 2d ", 172_800),
        ("1w", 604_800),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("1m500ms", 60.5),
        ("0s", 0),
        ("30", 30),
        ("0.25", 0.25),
        ("PT15M", 900),
        ("P1DT12H", 129_600),
        ("P2W", 1_209_600),
        ("PT0.5S", 0.5),
        (90, 90),
        (0.1, 0.1),
    ],
)
def test_accepted_forms(text: str | float, seconds: float) -> None:
    """Each documented form means the seconds it says."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "m",
        "-5m", "5m-", "1h1h", "1m1h", "1y", "15 minutes", "P", "PT", "P1DT", "P1Y", "P1M", "PT15", "P1H",
        "pt15m", "nan", "inf", "1e3", "١٥m", "1..5s", "5M", "9" * 400 + "s",
        "1" + "0" * 17 + "w", "36526d", "-1",
        -1, -0.5, float("nan"), float("inf"), 1e300, 10**30, True, None, [], timedelta(1),
    ],
)  # fmt: skip
def test_refused_forms(value: object) -> None:
    """What is not a duration is refused with a short message that names the accepted forms or the limit."""
    with pytest.raises(ValidationFailed) as caught:
        parse_duration(value)  # type: ignore[arg-type]  # wrong types are what is tested
    assert "PT15M" in str(caught.value) or "36525 days" in str(caught.value)
    assert len(str(caught.value)) < 250
    assert caught.value.errors[0].code == "duration"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (900, "15m"), (90, "90s"), (5400, "90m"), (604_800, "1w"), (691_200, "8d"), (0.5, "500ms"),
        (0.0015, "1.5ms"), (0.000001, "0.001ms"), (3661, "61m1s"), (86_400, "1d"),
    ],
)  # fmt: skip
def test_shortest_text(seconds: float, text: str) -> None:
    """The shortest spelling is chosen, and among equals the larger units."""
    assert format_duration(timedelta(seconds=seconds)) == text


@given(st.timedeltas(min_value=timedelta(0), max_value=MAX_DURATION))
def test_round_trip(delta: timedelta) -> None:
    """Whatever is formatted reads back as itself, to the microsecond."""
    assert parse_duration(format_duration(delta)) == delta


def test_negative_is_not_formatted() -> None:
    """A negative delta has no text."""
    with pytest.raises(ValueError, match="negative"):
        format_duration(timedelta(seconds=-1))
