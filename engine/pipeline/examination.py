"""Everything that can be said of a document before it runs, in one list: what `validate` prints and the API answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import Problem, ValidationFailed
from engine.pipeline.definition import Definition
from engine.pipeline.documents import Document
from engine.pipeline.lint import is_error, lint
from engine.pipeline.lint.walk import Catalog, unknown_tool
from engine.pipeline.parse import parse_definition, refusal
from engine.pipeline.reading import at_pointer

_CALLS = ("/steps", "/on_failure", "/payload/pipeline")
_PROBE = "/schedule/condition/probe"


@dataclass(frozen=True, slots=True)
class Examined:
    """A document's findings in the order of its text. With errors there may be no definition."""

    definition: Definition | None
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()

    def accepted(self) -> Definition:
        """The definition. Raises ValidationFailed with all errors when there are any."""
        if self.errors or self.definition is None:
            raise refusal(list(self.errors))
        return self.definition


def examine(document: Document, catalog: Catalog) -> Examined:
    """Parse and lint `document`. Warnings are told of what parses; tools are looked up in any case."""
    try:
        definition = parse_definition(document)
    except ValidationFailed as error:
        tools = _unknown_tools(document, catalog)
        return Examined(None, tuple(refusal([*error.errors, *tools]).errors))
    findings = lint(definition, catalog, document)
    errors = tuple(each for each in findings if is_error(each))
    return Examined(definition, errors, tuple(each for each in findings if not is_error(each)))


def _unknown_tools(document: Document, catalog: Catalog) -> Iterator[Problem]:
    for pointer, uses in _uses(document.value):
        problem = unknown_tool(uses, catalog)
        if problem is not None:
            line, column = document.position(pointer) or (None, None)
            yield Problem(problem.code, problem.detail, pointer, line, column)


def _uses(value: Any) -> Iterator[tuple[str, str]]:
    """Every `uses` of a document of whatever shape, with its pointer."""
    for place in _CALLS:
        steps = at_pointer(value, place)
        for number in range(len(steps) if isinstance(steps, list) else 0):
            yield from _used(value, f"{place}/{number}")
    yield from _used(value, _PROBE)


def _used(value: Any, pointer: str) -> Iterator[tuple[str, str]]:
    call = at_pointer(value, pointer)
    if isinstance(call, Mapping) and isinstance(call.get("uses"), str):
        yield f"{pointer}/uses", call["uses"]
