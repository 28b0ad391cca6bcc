"""`duework db …` and `doctor` on a database that is empty, and on one that is not there."""

from __future__ import annotations

import pytest

from ops.cli.main import run


def test_migrate_status_check_downgrade(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A database's way to the newest schema and back, each step told by exit codes."""
    monkeypatch.setenv("DUEWORK_DATABASE_URL", empty_database_url)
    assert run(["db", "status"]) == 1
    assert run(["db", "check"]) == 3
    assert run(["doctor"]) == 1
    assert "run `duework db migrate`" in capsys.readouterr().out
    assert run(["db", "migrate"]) == 0
    assert run(["db", "migrate"]) == 0
    assert "already" in capsys.readouterr().err
    assert run(["db", "check"]) == 0
    assert run(["db", "downgrade", "base"]) == 2
    assert run(["db", "downgrade", "base", "--yes"]) == 0
    assert run(["db", "status"]) == 1


def test_sql_needs_no_database(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The schema as SQL text, from a machine that has no server."""
    monkeypatch.setenv("DUEWORK_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert run(["db", "sql"]) == 0
    assert "CREATE VIEW duework.runs" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["db", "migrate"], ["db", "status"]])
def test_no_database_is_exit_code_9(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that does not answer: one line, without the password."""
    monkeypatch.setenv("DUEWORK_DATABASE_URL", "postgresql://nobody:hidden@127.0.0.1:1/none")
    assert run(words) == 9
    err = capsys.readouterr().err
    assert err.startswith("error: cannot connect")
    assert "hidden" not in err


def test_doctor_says_how_to_mend_a_missing_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first line fails, and the rest is still examined."""
    monkeypatch.setenv("DUEWORK_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert run(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "fail  database" in out
    assert "ok    tools" in out


def test_an_unknown_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt variable stops the command, which names the one that was meant."""
    monkeypatch.setenv("DUEWORK_DATABSE_URL", "x")
    assert run(["db", "status"]) == 3
    assert "did you mean DUEWORK_DATABASE_URL?" in capsys.readouterr().err
