"""How answers are printed, and how parameters are read."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from engine.pipeline import load_documents
from ops.cli.output import Format, Output, grid
from ops.cli.runs import parameters

ITEMS: list[dict[str, Any]] = [
    {"name": "a", "labels": {"tier": "2"}, "next_run": None, "active": True},
    {"name": "b", "labels": {}, "next_run": "2026-12-01T09:00:00Z", "active": False},
]


def test_a_pipe_gets_an_aligned_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal there is no colour, and nothing is cut off."""
    Output().show(ITEMS, "name", "next_run", "labels")
    assert capsys.readouterr().out == (
        " NAME | NEXT RUN             | LABELS\n"
        " -----+----------------------+--------------\n"
        ' a    |                      | {"tier": "2"}\n'
        " b    | 2026-12-01T09:00:00Z | {}\n"
    )


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (Format.NAME, "a\nb"),
        (Format.JSONL, "\n".join(map(json.dumps, ITEMS))),
        (Format.JSON, json.dumps(ITEMS, indent=2)),
    ],
)
def test_programs_get_every_member(shape: Format, text: str) -> None:
    """The formats for programs leave nothing out, whatever columns a table would show."""
    assert Output(shape).text(ITEMS, ["name"]) == text


def test_yaml_reads_back_as_the_same() -> None:
    """What is printed as YAML is the value again."""
    (document,) = load_documents(Output(Format.YAML).text(ITEMS), "x.yaml")
    assert document.value == ITEMS


def test_query_chooses_before_printing(capsys: pytest.CaptureFixture[str]) -> None:
    """--query applies JMESPath to the answer."""
    Output(query="[?active].name | [0]").show(ITEMS, "name")
    assert capsys.readouterr().out == "a\n"


def test_one_thing_is_shown_member_by_member() -> None:
    """A mapping becomes a list of members, nested ones below each other."""
    assert Output().text({"name": "a", "labels": {"tier": "2"}}) == 'name    a\nlabels  tier: "2"'


def test_of_one_thing_people_see_the_members_chosen() -> None:
    """A command that names columns shows those and no others, and no blanks at the ends of lines."""
    assert Output().text(ITEMS[0], ["name", "next_run"]) == "name      a\nnext_run"


def test_a_list_of_words_is_read_as_words() -> None:
    """What nests deeper stays JSON."""
    shown = grid(["scopes", "of"], [[["task:run", "tool:x"], [{"a": 1}]], [[], {}]]).splitlines()
    assert [line.rstrip() for line in shown[2:]] == [
        ' task:run, tool:x | [{"a": 1}]',
        "                  | {}",
    ]


def test_grid_clips_and_joins_lines() -> None:
    """A long cell ends in an ellipsis, and a cell never breaks its row."""
    assert grid(["x"], [["a\nb"], ["c" * 30]], widest=10) == " x\n -----------\n a b\n ccccccccc…".replace(
        "-----------", "----------"
    )


@pytest.mark.parametrize(
    ("pair", "value"),
    [("n=3", 3), ("n=Ada", "Ada"), ('n="3"', "3"), ("n=a=b", "a=b"), ("n=[1,2]", [1, 2]), ("n=", "")],
)
def test_parameters_are_json_or_text(pair: str, value: Any) -> None:
    """A value that is JSON keeps its type, everything else is text."""
    assert parameters([pair]) == {"n": value}


def test_a_terminal_gets_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the states stand out; the words are the same."""
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = Output().text([{"task": "a", "status": "failed"}, {"task": "b", "status": "succeeded"}])
    assert "\x1b[31mfailed" in text
    assert "\x1b[32msucceeded" in text


def test_a_narrow_terminal_breaks_words_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentences go over several lines; an instant and an id are whole, even where the terminal is too narrow."""
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "40")
    run, note = "01a1fed5-7b77-7c87-be0b-11465b421121", "clocks go forward from 02:00 to 03:00 on this day"
    text = Output().text([{"run_id": run, "at": "2027-03-14T08:30:00Z", "duration_ms": None, "note": note}])
    assert "DURATION MS" in text
    line = next(each for each in text.splitlines() if run in each)
    assert "2027-03-14T08:30:00Z" in line
    assert "…" not in text
    assert note not in text
    assert all(word in text for word in note.split())
