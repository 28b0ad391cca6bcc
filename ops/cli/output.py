"""How data is printed: as a table for people, as JSON, JSON lines, YAML or names for programs.

Only data goes through here, to stdout; words go to stderr with `say`. Colour and boxes appear on a terminal
alone, so that a pipe gets the same bytes every time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import repeat
from numbers import Number
from pathlib import Path
from typing import Any, overload

import typer

from engine.errors import Problem

NAMES = ("name", "address", "run_id", "event_id", "id")  # what identifies a thing, the best first
WIDEST = 10_000  # characters of a line, where nothing is cut off
SENTENCE = 24  # characters in which words can still be read, below each other


class Format(StrEnum):
    """The values of `--output`."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Output:
    """How one command prints: the answer of `--output` and `--query`."""

    format: Format = Format.TABLE
    query: str | None = None

    def show(self, value: Any, *columns: str) -> None:
        """Print a mapping or a list of mappings; `columns` are what people are shown, all members without them."""
        if self.query is not None:
            value, columns = _queried(self.query, value), ()
        print(self.text(value, columns))

    def text(self, value: Any, columns: Sequence[str] = ()) -> str:
        """The printed form."""
        items = value if isinstance(value, list) else [value]
        match self.format:
            case Format.JSON:
                return json.dumps(value, indent=2, ensure_ascii=False)
            case Format.JSONL:
                return "\n".join(json.dumps(item, ensure_ascii=False) for item in items)
            case Format.YAML:
                return _yaml(value)
            case Format.NAME:
                return "\n".join(map(_name, items))
            case Format.TABLE:
                return _people(value, columns)


@overload
def masked(told: str) -> str: ...
@overload
def masked(told: Problem) -> Problem: ...
def masked(told: str | Problem) -> str | Problem:
    """Words or a problem without what the gate would find in them: what a command prints ends in logs of others."""
    from engine import reflex
    from engine.reflex.edition import judged_by, usable

    with judged_by(usable()):  # the error may be about the operator's own patterns
        if isinstance(told, str):
            return reflex.mask(told)
        return replace(told, detail=reflex.mask(told.detail), pointer=reflex.mask(told.pointer))


def say(words: str) -> None:
    """Words for the person at the terminal, on stderr."""
    print(words, file=sys.stderr)


def given_text(source: Path) -> str:
    """The text of a file, or of standard input for `-`. A file that is no text, or not there, is wrong usage."""
    if str(source) == "-":
        return typer.get_text_stream("stdin").read()
    try:
        return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{source} cannot be read as text", param_hint="FILE") from error


def confirm(question: str, yes: bool) -> None:
    """Ask before something is destroyed; without a terminal `--yes` is needed. Ends the command on a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        say(f"error: {question} There is no terminal to ask at: say --yes")
        raise typer.Exit(2)
    typer.confirm(question, abort=True, err=True)


def cell(value: Any) -> str:
    """One value in a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return ", ".join(map(cell, value))
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def grid(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, widest: int = 60) -> str:
    """Aligned text like psql's: a header, a rule, the rows, numbers to the right. Longer cells are cut short."""
    cells = [[_clipped(cell(value), widest) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    right = [_numeric(column) for column in zip(*rows, strict=True)] or [False] * len(columns)
    lines = [
        [text.rjust(width) if number else text.ljust(width) for text, width, number in zip(*row, strict=True)]
        for row in ((each, widths, right) for each in cells)
    ]
    head = [text.ljust(width) for text, width in zip(columns, widths, strict=True)]
    texts = [" | ".join(head), "-+-".join("-" * width for width in widths), *map(" | ".join, lines)]
    return "\n".join(f" {text.rstrip()}" for text in texts)


def _numeric(column: Sequence[Any]) -> bool:
    """Whether a column holds numbers and nothing else."""
    values = [value for value in column if value is not None]
    return bool(values) and all(isinstance(value, Number) and not isinstance(value, bool) for value in values)


def _clipped(text: str, widest: int) -> str:
    flat = " ".join(text.splitlines())
    return flat if len(flat) <= widest else flat[: widest - 1] + "…"


def _people(value: Any, columns: Sequence[str]) -> str:
    if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        names = list(columns) or list(dict.fromkeys(name for item in value for name in item))
        return _table(names, [[item.get(name) for name in names] for item in value])
    if isinstance(value, Mapping):
        chosen = {name: value.get(name) for name in columns} or value
        width = max(map(len, chosen), default=0)
        lines = (f"{name.ljust(width)}  {_member(member, width)}" for name, member in chosen.items())
        return "\n".join(line.rstrip() for line in lines)
    if isinstance(value, list):
        return "\n".join(map(cell, value))
    return cell(value)


def _member(value: Any, indent: int) -> str:
    """A member of one thing; nested data as YAML below each other."""
    if not isinstance(value, dict | list) or not value:
        return cell(value)
    return _yaml(value).replace("\n", "\n" + " " * (indent + 2))


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns of words are wrapped; instants, names and ids are whole, however narrow the terminal."""
    heads = [name.upper().replace("_", " ") for name in names]
    if not sys.stdout.isatty():
        return grid(heads, rows, widest=WIDEST)
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    cells = [[cell(value) for value in row] for row in rows]
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for head, column in zip(heads, zip(*cells, strict=True) if cells else repeat(()), strict=False):
        words = any(" " in text for text in column)
        longest = max(map(len, (head, *column)))
        least = min(longest, SENTENCE) if words else longest
        table.add_column(head, no_wrap=not words, min_width=least, overflow="fold")
    for row in cells:
        table.add_row(*map(_coloured, row))
    needed = Measurement.get(Console(width=WIDEST), Console(width=WIDEST).options, table).minimum
    console = Console(width=max(Console().width, needed))
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().strip("\n").splitlines())


def _coloured(text: str) -> Any:
    from rich.text import Text

    red, green = ("failed", "blocked", "dead", "timed_out", "expired"), ("succeeded", "active")
    return Text(text, style="red" if text in red else "green" if text in green else "")


def _yaml(value: Any) -> str:
    from engine.pipeline import dump_yaml

    return dump_yaml(value).removesuffix("\n").removesuffix("\n...")


def _name(item: Any) -> str:
    if not isinstance(item, Mapping):
        return cell(item)
    return cell(next((item[name] for name in NAMES if name in item), ""))


def _queried(query: str, value: Any) -> Any:
    import jmespath

    try:
        return jmespath.search(query, value)
    except jmespath.exceptions.JMESPathError as error:
        raise typer.BadParameter(f"{query!r} is not JMESPath: {error}", param_hint="--query") from error
