"""`duework validate`, `convert` and `schema`: golden outputs, offline."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ops.cli.main import run

HERE = Path(__file__).parent / "definitions"

TEXT = """\
broken.yaml:3:1: yaml: not valid YAML: expected the node content, but found '<stream end>' while parsing a flow node
wrong.yaml:5:1: unknown_key: unknown key 'schedul'; did you mean 'schedule'?
wrong.yaml:6:19: duration: 'soon' is not a duration: write it like "15m", "1h30m", \
"500ms", "2d", "1w", ISO 8601 "PT15M", or a number of seconds
wrong.yaml:8:23: unknown_tool: there is no tool 'core.ecko' in the catalog; did you mean 'core.echo'?
wrong.yaml:17:23: unknown_tool: there is no tool 'core.ecko' in the catalog; did you mean 'core.echo'?
wrong.yaml:12:7: duplicate_name: 'greeting' is already the name of a document in good.yaml
wrong.yaml:17:50: warning: unknown_param: there is no parameter 'whom'; did you mean 'who'?
"""

GITHUB = """\
::error file=wrong.yaml,line=5,col=1,title=unknown_key::unknown key 'schedul'; did you mean 'schedule'?
::error file=wrong.yaml,line=6,col=19,title=duration::'soon' is not a duration: write it like "15m", "1h30m", \
"500ms", "2d", "1w", ISO 8601 "PT15M", or a number of seconds
::error file=wrong.yaml,line=8,col=23,title=unknown_tool::there is no tool 'core.ecko' in the catalog; \
did you mean 'core.echo'?
::error file=wrong.yaml,line=17,col=23,title=unknown_tool::there is no tool 'core.ecko' in the catalog; \
did you mean 'core.echo'?
::warning file=wrong.yaml,line=17,col=50,title=unknown_param::there is no parameter 'whom'; did you mean 'who'?
"""


@pytest.fixture(autouse=True)
def beside_the_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in the golden outputs are relative to the folder of definitions."""
    monkeypatch.chdir(HERE)


def test_text_names_file_line_and_column(capsys: pytest.CaptureFixture[str]) -> None:
    """Each problem is one line that an editor can jump to, and the words go to stderr."""
    assert run(["validate", "."]) == 3
    out, err = capsys.readouterr()
    assert out == TEXT
    assert err == "4 documents: 6 errors, 1 warning\n"


def test_github_writes_workflow_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """The same problems as GitHub annotates them."""
    assert run(["validate", "--format", "github", "wrong.yaml"]) == 3
    assert capsys.readouterr().out == GITHUB


def test_github_escapes_what_would_end_the_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A comma or a percent sign in a file's name cannot forge a parameter."""
    (tmp_path / "a,b%.yaml").write_text("[", encoding="utf-8")
    assert run(["validate", "--format", "github", str(tmp_path)]) == 3
    assert "a%2Cb%25.yaml,line=" in capsys.readouterr().out


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """One object per problem, its severity and pointer included."""
    assert run(["validate", "--format", "json", "wrong.yaml"]) == 3
    first, *_ = json.loads(capsys.readouterr().out)
    assert first == {
        "source": "wrong.yaml",
        "severity": "error",
        "pointer": "/schedul",
        "line": 5,
        "column": 1,
        "code": "unknown_key",
        "detail": "unknown key 'schedul'; did you mean 'schedule'?",
    }


def test_a_good_definition_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing on stdout, exit code 0."""
    assert run(["validate", "good.yaml"]) == 0
    assert capsys.readouterr() == ("", "1 document: 0 errors, 0 warnings\n")


def test_a_once_in_the_past_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is legal and will not run: a warning at its place, exit code 0."""
    text = Path("good.yaml").read_text(encoding="utf-8")
    schedule = re.compile(r"^schedule:.*\n(?: .*\n)*", re.MULTILINE)
    told = schedule.sub("schedule: {once: '2001-01-01T09:00:00'}\n", text)
    assert told != text
    (tmp_path / "late.yaml").write_text(told, encoding="utf-8")
    assert run(["validate", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert ("late.yaml:5:" in out, "will not run" in out) == (True, True)


def test_a_missing_file_is_not_found(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4, and the message names the path."""
    assert run(["validate", "nowhere.yaml"]) == 4
    assert capsys.readouterr().err == "error: there is no file nowhere.yaml\n"


def test_files_without_a_document_are_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipeline of a build that looked at nothing must not be green."""
    (tmp_path / "empty.yaml").write_text("# to be written\n", encoding="utf-8")
    assert run(["validate", str(tmp_path)]) == 4
    assert capsys.readouterr().err == f"error: there is no document in {tmp_path}\n"


def test_the_examples_are_without_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """The pipelines that come with duework give no error and no warning."""
    assert run(["validate", str(Path(__file__).parents[3] / "catalogs" / "pipelines")]) == 0
    assert capsys.readouterr().out == ""


def test_the_seed_format_is_converted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What `convert` prints of a seed document validates as format v1."""
    seed = {
        "title": "Echo",
        "schedule_kind": "rrule",
        "schedule_expr": "FREQ=DAILY;BYHOUR=9",
        "timezone": "Europe/Chisinau",
        "payload": {"pipeline": [{"id": "echo", "uses": "echo.message", "with": {"text": "hi"}}]},
    }
    (tmp_path / "seed.json").write_text(json.dumps(seed), encoding="utf-8")
    assert run(["convert", str(tmp_path / "seed.json")]) == 0
    text = capsys.readouterr().out
    assert "apiVersion: duework/v1" in text
    (tmp_path / "v1.yaml").write_text(text, encoding="utf-8")
    assert run(["validate", str(tmp_path / "v1.yaml")]) == 0


def test_what_conversion_leaves_behind_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Comments, and what format v1 has no place for."""
    (tmp_path / "seed.yaml").write_text(
        "# daily\ntitle: Echo\nschedule_kind: manual\nschedule_expr: ''\nstatus: paused\n"
        "created_by: 00000000-0000-0000-0000-000000000001\npayload: {pipeline: [{uses: echo.message}]}\n",
        encoding="utf-8",
    )
    assert run(["convert", str(tmp_path / "seed.yaml")]) == 0
    out, err = capsys.readouterr()
    assert "paused" not in out
    assert err == (
        "comments are not carried over\n"
        "created_by is not carried over: the author of a task is whoever applies it\n"
        "status is not carried over: pause a task with `duework task pause` once it is applied\n"
    )


@pytest.mark.parametrize("kind", ["pipeline", "tool"])
def test_schemas_are_printed_as_published(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`schema` prints a JSON Schema of draft 2020-12."""
    assert run(["schema", kind]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].endswith("2020-12/schema")
