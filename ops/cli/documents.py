"""Definitions in files, read and checked offline: what `validate` reports and `apply` sends."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from engine.errors import NotFound, Problem, ValidationFailed
from engine.pipeline import Definition, Document, examine, load_documents
from engine.pipeline.seed import place_in_seed
from engine.schedule.preview import over
from engine.tools.registry import Catalog

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = Path("-")


@dataclass(frozen=True, slots=True)
class Checked:
    """One document, or one file that is none. Without a definition there are errors."""

    source: str
    document: Document | None
    definition: Definition | None
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def check(paths: Sequence[Path], catalog: Catalog) -> list[Checked]:
    """Every document of the files and folders, with all its problems.

    Raises NotFound for a path that is not there, and when no file has a document: nothing to check is no success.
    """
    found = [each for path in files(paths) for each in _checked(path, catalog)]
    if not found:
        raise NotFound(f"there is no document in {', '.join(map(str, paths))}")
    return list(_named_once(found))


def files(paths: Sequence[Path]) -> list[Path]:
    """The files meant: folders stand for the YAML and JSON files below them, `-` for standard input."""
    answer: list[Path] = []
    for path in paths:
        if path.is_dir():
            answer += sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES and each.is_file())
        elif path == STDIN or path.exists():
            answer.append(path)
        else:
            raise NotFound(f"there is no file {path}")
    if not answer:
        raise NotFound(f"there are no {', '.join(SUFFIXES)} files in {', '.join(map(str, paths))}")
    return answer


def _checked(path: Path, catalog: Catalog) -> Iterator[Checked]:
    source = "<stdin>" if path == STDIN else str(path)
    try:
        documents = load_documents(_text(path), source)
    except ValidationFailed as error:
        yield Checked(source, None, None, tuple(error.errors))
        return
    for document in documents:
        yield _judged(source, document, catalog)


def _text(path: Path) -> str:
    if path == STDIN:
        return sys.stdin.read()
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        detail = f"the file is not UTF-8: byte {error.start} cannot be read"
        raise ValidationFailed(detail, [Problem("encoding", detail, line=1, column=1)]) from error


def _judged(source: str, document: Document, catalog: Catalog) -> Checked:
    examined = examine(document, catalog.entries)
    past = () if examined.definition is None else _past(examined.definition, document)
    return Checked(source, document, examined.definition, examined.errors, (*examined.warnings, *past))


def _past(definition: Definition, document: Document) -> Iterator[Problem]:
    """The warning that the moment of a `once` has passed, which only a clock can tell."""
    written = definition.schedule.place("")
    pointer = place_in_seed(written) if definition.source_format == "seed" else written
    line, column = document.position(pointer) or (None, None)
    for text in over(definition.schedule.compile(), datetime.now(UTC)):
        yield Problem("in_the_past", text, pointer, line, column)


def _named_once(found: Sequence[Checked]) -> Iterator[Checked]:
    """A name is an identity: the second document that claims it is wrong."""
    owners: dict[str, str] = {}
    for each in found:
        name = each.definition.name if each.definition else None
        if name is None:
            yield each
        elif name in owners:
            yield _repeated(each, name, owners[name])
        else:
            owners[name] = each.source
            yield each


def _repeated(each: Checked, name: str, where: str) -> Checked:
    assert each.document is not None
    line, column = each.document.position("/name") or (None, None)
    problem = Problem(
        "duplicate_name", f"'{name}' is already the name of a document in {where}", "/name", line, column
    )
    return replace(each, errors=(*each.errors, problem))
