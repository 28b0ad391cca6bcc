"""The benchmark of seeking runs, small: that it works is seen here, what it measures is not judged."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.load import seek


def test_seek_measures_every_kind_of_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """Every row is printed, its ratio too."""
    seek.main(["--calls", "2", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    rows = lines[-len(seek.asked()) :]
    assert "ratio" in lines[-len(seek.asked()) - 1]
    for (_, text), line in zip(seek.asked(), rows, strict=True):
        assert line.startswith(text.replace("FREQ=", "").replace("RRULE:", "").partition("\n")[0][:51])
        assert len(line[52:].split()) == 2 * len(seek.AGES) + 3


def test_the_reference_is_asked_where_it_can_answer() -> None:
    """dateutil is not asked what takes it minutes, nor what it answers wrongly."""
    day, years = timedelta(days=1), timedelta(days=10957)
    assert seek.reference("rrule", "FREQ=DAILY", years) is not None
    assert seek.reference("rrule", "FREQ=MINUTELY", day) is not None
    assert seek.reference("rrule", "FREQ=MINUTELY", years) is None
    assert seek.reference("rrule", seek.UNTRUE[0], day) is None
    assert seek.reference("every", "15m", day) is None
