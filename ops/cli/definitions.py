"""`duework validate`, `convert` and `schema`: definitions offline, without a server or a database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.errors import Problem, ValidationFailed
from engine.pipeline import Document, load_documents
from engine.pipeline import convert as converted
from engine.settings import load
from engine.tools.registry import load_catalog
from ops.cli.documents import Checked, check, files
from ops.cli.exits import Exit
from ops.cli.output import masked, say

Paths = Annotated[
    list[Path], typer.Argument(help="Files, folders, or - for standard input.", show_default=False)
]


class Report(StrEnum):
    """The values of `validate --format`."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


class Kind(StrEnum):
    """The documents that have a published schema."""

    PIPELINE = "pipeline"
    TOOL = "tool"


def validate(
    paths: Paths,
    format: Annotated[Report, typer.Option("--format", help="How to print what is wrong.")] = Report.TEXT,
) -> None:
    """Check definitions as the server would. Prints file:line:column: code: message; exit code 3 on an error."""
    found = check(paths, load_catalog(load()))
    WRITERS[format](found)
    errors = sum(len(each.errors) for each in found)
    warnings = sum(len(each.warnings) for each in found)
    say(f"{counted(len(found), 'document')}: {counted(errors, 'error')}, {counted(warnings, 'warning')}")
    if errors:
        raise typer.Exit(Exit.INVALID)


def convert(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file, or - for standard input.", show_default=False)
    ],
) -> None:
    """Print definitions, the seed format's too, as YAML in format v1."""
    (file,) = files([path]) if not path.is_dir() else _no_folder(path)
    text = typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text(encoding="utf-8")
    documents = load_documents(text, str(file))
    print("---\n".join(converted(document) for document in documents), end="")
    for line in _left_behind(text, documents):
        say(line)


def _left_behind(text: str, documents: Sequence[Document]) -> Iterator[str]:
    """What the YAML of `convert` does not say, though the file did."""
    if not text.lstrip().startswith("{") and any(line.lstrip().startswith("#") for line in text.splitlines()):
        yield "comments are not carried over"
    for document in documents:
        for key in ("created_by", "status") if isinstance(document.value, Mapping) else ():
            if "apiVersion" not in document.value and document.value.get(key) is not None:
                yield f"{key} is not carried over: {_INSTEAD[key]}"


_INSTEAD: Mapping[str, str] = {
    "created_by": "the author of a task is whoever applies it",
    "status": "pause a task with `duework task pause` once it is applied",
}


def schema(kind: Annotated[Kind, typer.Argument(help="Of what.", show_default=False)]) -> None:
    """Print the published JSON Schema, for editors and checks of your own."""
    print(
        resources.files("catalogs").joinpath(f"schemas/{kind.value}-v1.json").read_text(encoding="utf-8"),
        end="",
    )


def located(found: Sequence[Checked]) -> Iterator[tuple[str, str, Problem]]:
    """(source, "error" or "warning", problem) in the order of the files; problems quote the file, and are masked."""
    for each in found:
        yield from ((each.source, "error", masked(problem)) for problem in each.errors)
        yield from ((each.source, "warning", masked(problem)) for problem in each.warnings)


def line_of(source: str, severity: str, problem: Problem) -> str:
    """`file:line:column: code: message`, as compilers write it, so that editors jump there."""
    place = f"{source}:{problem.line or 1}:{problem.column or 1}"
    mark = "" if severity == "error" else "warning: "
    return f"{place}: {mark}{problem.code}: {problem.detail}"


def _text(found: Sequence[Checked]) -> None:
    for each in located(found):
        print(line_of(*each))


def _json(found: Sequence[Checked]) -> None:
    items: list[dict[str, Any]] = [
        {"source": source, "severity": severity, **problem.as_dict()}
        for source, severity, problem in located(found)
    ]
    print(json.dumps(items, indent=2, ensure_ascii=False))


def _github(found: Sequence[Checked]) -> None:
    """Workflow commands, which GitHub shows beside the lines of a pull request."""
    for source, severity, problem in located(found):
        place = f"file={_escaped(source, ',:')},line={problem.line or 1},col={problem.column or 1}"
        print(f"::{severity} {place},title={_escaped(problem.code, ',:')}::{_escaped(problem.detail, '')}")


WRITERS: Mapping[Report, Callable[[Sequence[Checked]], None]] = {
    Report.TEXT: _text,
    Report.JSON: _json,
    Report.GITHUB: _github,
}


def _escaped(text: str, more: str) -> str:
    return "".join(f"%{ord(sign):02X}" if sign in f"%\r\n{more}" else sign for sign in text)


def counted(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _no_folder(path: Path) -> list[Path]:
    raise ValidationFailed(f"{path} is a folder: convert one file at a time")
