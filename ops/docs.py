"""The reference pages, written from the code, so that they cannot say anything else.

`python -m ops.docs` writes docs/reference/*.md; with `--check` it only says, by exit code 1, which of them are
stale. A test does the same.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import typer

import migrations
from api.openapi import reference_markdown
from engine.durations import format_duration
from engine.metrics import Metrics
from engine.settings import Settings, variable
from engine.telemetry import EVENTS
from ops import catalog_page, expression_page, gate_page, tool_page
from ops.cli import tree
from ops.cli.exits import Exit

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
LOGGING = ("api", "engine", "scheduler", "workers", "ops")
LEVELS: Mapping[str, str] = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
}
WIDTH = 100
VIEW = re.compile(r"COMMENT ON VIEW duework\.(\w+) IS '((?:[^']|'')*)'")
COLUMN = re.compile(r"COMMENT ON COLUMN duework\.(\w+)\.(\w+) IS '((?:[^']|'')*)'")
MEANINGS: Mapping[Exit, str] = {
    Exit.OK: "it worked",
    Exit.FAILED: "the answer is no: it differs, or the run failed",
    Exit.USAGE: "the command line is wrong",
    Exit.INVALID: "the input is invalid",
    Exit.NOT_FOUND: "there is no such thing",
    Exit.AUTH: "no valid credentials, or a scope is missing",
    Exit.CONFLICT: "the state does not allow it, or the name is taken",
    Exit.BLOCKED: "the gate refused it",
    Exit.WAIT_TIMED_OUT: "the wait timed out; the run goes on",
    Exit.UNREACHABLE: "the server or the database cannot be reached",
}


def pages() -> dict[str, str]:
    """File name → text of every reference page."""
    made = {
        "settings.md": settings(),
        "metrics.md": metrics(),
        "cli.md": command_line(),
        "views.md": views(),
        "events.md": events(),
        "catalog.md": _page("The catalog", catalog_page.OPENING, *catalog_page.sections()),
        "tools.md": _page("Tools", tool_page.OPENING, *tool_page.sections()),
        "gate-patterns.md": _page("What the gate looks for", gate_page.OPENING, *gate_page.sections()),
        "api.md": reference_markdown(),
        "expressions.md": _page("Expressions", expression_page.OPENING, *expression_page.sections()),
    }
    return {name: text.rstrip() + "\n" for name, text in made.items()}


def stale(folder: Path = FOLDER) -> list[str]:
    """The pages whose file is missing or says something else than the code."""
    return [name for name, text in pages().items() if _read(folder / name) != text]


def write(folder: Path = FOLDER) -> None:
    """Write every page."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


def settings() -> str:
    """The page of settings."""
    rows = [
        (f"`{variable(spec.name)}`", _default(spec.default), _setting(spec))
        for spec in dataclasses.fields(Settings)
    ]
    return _page(
        "Settings",
        "Read from the environment and from a file `.env` in the working directory; the environment wins. An unknown "
        "variable that begins with `DUEWORK_` is an error. Durations are written `30s`, `15m`, `1h30m`, or in seconds. "
        "Secrets of pipelines (`${secrets.NAME}`) come from files in `DUEWORK_SECRETS_DIR`, from "
        "`DUEWORK_SECRET_<NAME>`, and from the same in `.env`.",
        _table(("Variable", "Default", "Meaning"), rows),
    )


def metrics() -> str:
    """The page of metrics."""
    rows = [(f"`{name}`", kind, text) for name, kind, text in Metrics().describe()]
    return _page(
        "Metrics",
        "Served in Prometheus' text format at `/metrics`. A counter's samples end in `_total`, a histogram's in "
        "`_bucket`, `_sum` and `_count`.",
        _table(("Metric", "Type", "Meaning"), rows),
    )


def events() -> str:
    """The page of log events: each with the levels and fields of the calls that log it."""
    seen: dict[str, tuple[set[str], set[str]]] = {name: (set(), set()) for name in EVENTS}
    for name, level, fields in _logged():
        if name in seen:
            seen[name][0].add(level)
            seen[name][1].update(fields)
    rows = [
        (f"`{name}`", ", ".join(sorted(levels)), ", ".join(f"`{field}`" for field in sorted(fields)))
        for name, (levels, fields) in seen.items()
    ]
    return _page(
        "Log events",
        "One line per event: JSON where stderr is no terminal, text on one (`DUEWORK_LOG_FORMAT`). Every line has "
        "`event`, `level`, `timestamp` and `room`, those about a run its `run_id`. What the gate would find in a "
        "value is masked before the line is written.",
        _table(("Event", "Level", "Fields"), rows),
    )


def views() -> str:
    """The page of SQL views, from the comments that the migrations put on them."""
    text = migrations.sql()
    columns: dict[str, dict[str, str]] = {}
    for view, column, comment in COLUMN.findall(text):
        columns.setdefault(view, {})[column] = comment.replace("''", "'")
    sections = [
        f"## duework.{view}\n\n{comment.replace(chr(39) * 2, chr(39))}.\n\n"
        + _table(("Column", "Meaning"), [(f"`{name}`", said) for name, said in columns.get(view, {}).items()])
        for view, comment in dict(VIEW.findall(text)).items()
    ]
    return _page(
        "SQL views",
        "The contract for reading with SQL: columns are only ever added. The role `duework_reader` may read these "
        "views. Queries to start from are in `catalogs/queries/`.",
        *sections,
    )


def command_line() -> str:
    """The page of commands, as `--help` shows them."""
    codes = _table(("Code", "Meaning"), [(str(int(code)), MEANINGS[code]) for code in Exit])
    sections = [
        f"## duework {' '.join(words)}\n\n```text\n{_help(words, place)}\n```" for words, place in tree.walk()
    ]
    return _page(
        "Command line",
        "Data goes to stdout, words to stderr. `duework run NAME` is short for `duework run now NAME`.",
        f"## Exit codes\n\n{codes}",
        *sections,
    )


def _help(words: Sequence[str], place: str) -> str:
    command = tree.command(words[-1], place)
    context = typer.Context(command, info_name=f"duework {' '.join(words)}", terminal_width=WIDTH)
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def _logged() -> Iterator[tuple[str, str, set[str]]]:
    """(event, level, fields) of every log call."""
    for top in LOGGING:
        for path in sorted((ROOT / top).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in LEVELS
                ):
                    first = node.args[0] if node.args else None
                    if isinstance(first, ast.Constant) and isinstance(first.value, str):
                        yield (
                            first.value,
                            LEVELS[node.func.attr],
                            {each.arg for each in node.keywords if each.arg},
                        )


def _setting(spec: dataclasses.Field[Any]) -> str:
    text: str = spec.metadata["text"]
    if spec.metadata["choices"]:
        text += f" One of {', '.join(f'`{choice}`' for choice in spec.metadata['choices'])}."
    if spec.metadata["aliases"]:
        text += f" Also read from {', '.join(f'`{alias}`' for alias in spec.metadata['aliases'])}."
    return text


def _default(value: Any) -> str:
    if value in (None, ""):
        return ""
    return f"`{format_duration(value) if isinstance(value, timedelta) else str(value)}`"


def _page(title: str, opening: str, *sections: str) -> str:
    written = "<!-- Written by `python -m ops.docs` from the code; change the code instead. -->"
    return "\n\n".join((f"# {title}", written, opening, *sections))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def main() -> None:
    """Write the pages, or with `--check` name those that are stale."""
    if sys.argv[1:] != ["--check"]:
        write()
    elif found := stale():
        sys.exit(f"stale: {', '.join(found)}; run `python -m ops.docs`")


if __name__ == "__main__":
    main()
