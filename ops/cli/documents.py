"""Definitions in files, read and checked offline: what `validate` reports and `apply` sends."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import NotFound, Problem, ValidationFailed
from engine.pipeline import Definition, Document, is_error, lint, load_documents, parse_definition
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
    """Every document of the files and folders, with all its problems. Raises NotFound for a path that is not there."""
    found = [each for path in files(paths) for each in _checked(path, catalog)]
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
    try:
        definition = parse_definition(document)
    except ValidationFailed as error:
        return Checked(source, document, None, tuple(error.errors))
    findings = lint(definition, catalog.entries, document)
    errors = tuple(each for each in findings if is_error(each))
    warnings = tuple(each for each in findings if not is_error(each))
    return Checked(source, document, definition, errors, warnings)


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
