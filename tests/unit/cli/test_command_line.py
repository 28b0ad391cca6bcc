"""The command line as a whole: its tree, its words for mistakes, its start-up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.errors import Problem, ValidationFailed
from ops.cli import mcp_server, tree
from ops.cli.main import report, run

COMMANDS = [words for words, _ in tree.walk()]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` of each command says what it does, in its docstring's words."""
    assert run([*words, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: duework {' '.join(words)} ")
    place = dict(tree.walk())[tuple(words)]
    said = (tree.function(place).__doc__ or "").split()
    assert said
    assert " ".join(said[:5]) in " ".join(out.split())


def test_the_list_of_commands_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    """`duework` alone lists every command and group."""
    assert run([]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in tree.TREE)


def test_an_unknown_command_answers_did_you_mean(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt command is wrong usage, and the nearest one is named."""
    assert run(["wokrer"]) == 2
    assert (
        capsys.readouterr().err
        == "error: there is no command 'wokrer'; did you mean 'worker'?\nsee `duework --help`\n"
    )
    assert run(["db", "migrat"]) == 2
    assert "did you mean 'migrate'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task", "get"], "Missing argument"),
        (["task", "list", "--limit", "0"], "--limit"),
        (["task", "list", "--lmit", "3"], "No such option"),
        (["task", "list", "-o", "xml"], "-o"),
        (["task", "snooze", "x"], "one of --for and --until"),
        (["run", "x", "-p", "novalue"], "not key=value"),
        (["task"], "Missing command"),
    ],
)
def test_wrong_usage_is_exit_code_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong options and arguments are told in one line, with where to read on, and no traceback."""
    assert run(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert said in err
    assert "--help`" in err


def test_run_takes_a_name_beside_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """`duework run NAME` is `duework run now NAME`, while `duework run list` stays a command."""
    assert run(["run", "some-task", "--help"]) == 0
    assert "Usage: duework run now " in capsys.readouterr().out
    assert run(["run", "list", "--help"]) == 0
    assert "Usage: duework run list " in capsys.readouterr().out


def test_a_destructive_command_without_a_terminal_needs_yes(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody can be asked in a pipe: then the command refuses before it does anything."""
    assert run(["task", "cancel", "some-task", "--server", "http://127.0.0.1:1"]) == 2
    assert "--yes" in capsys.readouterr().err


def test_version_imports_no_server() -> None:
    """A short command does not pay for the web server, the database driver or tables."""
    code = (
        "import sys; from ops.cli.main import run; run(['version']);"
        "print([m for m in ('starlette', 'psycopg', 'httpx2', 'rich', 'alembic', 're2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"


def test_a_text_that_cannot_be_read_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is not there is told in one line, with no traceback."""
    assert run(["reflex", "check", str(tmp_path / "none.txt")]) == 2
    assert "none.txt cannot be read as text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("message", "pointer", "lines"),
    [
        ("the mark is not valid: /pattern: too wide", "/pattern", 1),
        ("kinds.toml: row 1: regex: too wide", "/pattern/0/regex", 1),
        ("the mark is not valid", "/pattern", 2),
        ("too wide", "/pattern", 2),
    ],
)
def test_nothing_is_told_twice(
    message: str, pointer: str, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A problem has a line of its own only where the sentence above lacks its words or its place."""
    report(ValidationFailed(message, [Problem("refused", "too wide", pointer)]))
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_mcp_without_its_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The SDK is an extra; without it the command names it and ends."""
    monkeypatch.setattr(mcp_server, "find_spec", lambda _: None)
    assert run(["mcp", "serve"]) == 4
    assert "install duework[mcp]" in capsys.readouterr().err
