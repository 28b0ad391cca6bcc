"""`duework reflex backtest`: what its flags mean, and what it tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from engine.errors import ValidationFailed
from engine.reflex.comparing import places
from ops.backtest import Report
from ops.cli import backtests
from tests.unit.reflex.test_comparing import finding
from tests.unit.reflex.test_custom import BADGE

AT = datetime(2026, 11, 21, tzinfo=UTC)


def test_a_policy_is_given_member_by_member(tmp_path: Path) -> None:
    """Lists are separated by commas; a kind of the candidate's own may be allowed."""
    made = backtests._candidate(None, ["pii=block", "allow=email,phone", "on=input"])
    assert made.members == {"pii": "block", "allow": {"email", "phone"}, "on": {"input"}}
    assert not backtests._candidate(None, []).given
    path = tmp_path / "kinds.toml"
    path.write_text(BADGE, encoding="utf-8")
    assert backtests._candidate(path, ["allow=employee_id"]).members == {"allow": {"employee_id"}}
    with pytest.raises(ValidationFailed):
        backtests._candidate(None, ["allow=employee_id"])
    with pytest.raises(typer.BadParameter):
        backtests._candidate(None, ["block"])


def test_since_is_a_time_or_a_length_of_time() -> None:
    """A time without a zone is UTC."""
    assert backtests._since("7d") == timedelta(days=7)
    assert backtests._since("2026-11-21") == AT
    assert backtests._since("2026-11-21T01:00:00+01:00") == AT
    with pytest.raises(typer.BadParameter):
        backtests._since("last week")


def test_what_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """How many values were judged, what would become of them, and what could not be judged."""
    report = Report(AT, candidate=False, runs=1, blocked=2)
    report.found.add(("mail", "send", "output"), "run-1", {}, places([finding("email", "/to", "block")]))
    backtests._tell(report)
    told = capsys.readouterr().err
    assert "1 values of 1 runs since 2026-11-21 00:00:00 UTC" in told
    assert "compared with what was decided then" in told
    assert "1 would be blocked (then passed)" in told
    assert "2 blocked steps: what was refused is not stored" in told
