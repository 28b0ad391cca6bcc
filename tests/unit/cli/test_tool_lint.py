"""`duework tool lint` and `tool test --local`: a catalog checked and tried without a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from ops.cli.main import run

Command = Callable[..., tuple[int, str]]

ENTRY = {
    "address": "my.echo",
    "transport": "builtin",
    "endpoint": "core.echo",
    "input_schema": {},
    "output_schema": {},
}


@pytest.fixture
def duework(capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """One command line: exit code and what was printed."""

    def call(*words: str) -> tuple[int, str]:
        code = run(["tool", *words])
        return code, capsys.readouterr().out

    yield call
    structlog.reset_defaults()  # the commands set the log up for a process of their own


def write(folder: Path, **files: object) -> str:
    """These files in the folder, as text or as JSON; the folder."""
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content, indent=1)
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return str(folder)


def test_a_sound_catalog_says_nothing(tmp_path: Path, duework: Command) -> None:
    """Exit code 0."""
    folder = write(tmp_path, tools_json=[ENTRY, ENTRY | {"address": "my.other"}])
    assert duework("lint", folder) == (0, "")


def test_faults_have_file_line_and_column(tmp_path: Path, duework: Command) -> None:
    """As compilers write them; a slip of the pen is told what was meant."""
    folder = write(
        tmp_path,
        a_yaml="address: my.echo\ntransport: builtin\nendpiont: x\ninput_schema: {}\noutput_schema: {}\n",
        b_json=[ENTRY, ENTRY],
    )
    code, out = duework("lint", folder)
    assert code == 3
    assert (
        f"{tmp_path}/a.yaml:3:1: unknown_key: my.echo: unknown key 'endpiont'; did you mean 'endpoint'?"
        in out
    )
    assert f"{tmp_path}/b.json:1:1: duplicate_tool: my.echo is already defined in b.json" in out


def test_examples_that_do_not_fit_are_warnings(tmp_path: Path, duework: Command) -> None:
    """A schema's own examples are what its readers copy."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "examples": [{"n": 1}, {"n": "x"}]}
    code, out = duework("lint", write(tmp_path, tools_json=ENTRY | {"input_schema": schema}), "-o", "json")
    (found,) = json.loads(out)
    assert (code, found["severity"], found["code"]) == (0, "warning", "example")
    assert "example 1 of its input_schema" in found["detail"]


def test_without_files_the_catalog_is_checked(
    tmp_path: Path, duework: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that DUEWORK_CATALOG names; without one the way out is told."""
    monkeypatch.delenv("DUEWORK_CATALOG", raising=False)
    assert duework("lint")[0] == 3
    monkeypatch.setenv("DUEWORK_CATALOG", write(tmp_path, tools_json=[ENTRY, ENTRY]))
    code, out = duework("lint")
    assert (code, "duplicate_tool" in out) == (3, True)


def test_what_a_module_prints_is_no_finding(tmp_path: Path, duework: Command) -> None:
    """Standard output holds findings alone, for programs that read them."""
    entry = ENTRY | {"transport": "python", "endpoint": "no_such_module_here:f"}
    code, out = duework("lint", write(tmp_path, tools_json=entry), "-o", "json")
    (found,) = json.loads(out)
    assert (code, found["code"]) == (0, "invalid_function")
    assert "DUEWORK_PYTHON_PATH" in found["detail"]


@pytest.mark.parametrize(("given", "code"), [('{"text": "hi"}', 0), ("[1]", 3), ("@/nowhere", 4)])
def test_a_tool_is_called_here(given: str, code: int, duework: Command) -> None:
    """Without server and database, through the same checks."""
    found, out = duework("test", "core.echo", "--local", "-i", given, "-o", "json")
    assert found == code
    if not code:
        assert json.loads(out)["output"] == {"text": "hi"}
