"""Expressions and literals that rarely mean what they say: traps, conditions that are no question, keys in the open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.expressions import Expression
from engine.pipeline.definition import Definition
from engine.pipeline.lint.tools import output_schema, owners
from engine.pipeline.lint.walk import CONDITION, Catalog, Place, expressions_of, find_tool, steps_of
from engine.pipeline.reading import Reading, at_pointer
from engine.reflex import scan

_SIZED = frozenset({"string", "array", "object"})


def lint_texts(reading: Reading, definition: Definition, catalog: Catalog) -> None:
    """Findings about single texts."""
    when = [(f"{CONDITION}/when", definition.probe.when)] if definition.probe else []
    for pointer, expression in (*when, *expressions_of(definition)):
        for trap, column in expression.traps:
            _report_within(reading, "trap", trap, pointer, expression, column)
    for pointer, expression in (*when, *_conditions(definition)):
        _lint_condition(reading, pointer, expression, _kinds(expression, definition, catalog))
    for name, value in definition.params.items():
        if isinstance(value, str) and "${" in value:
            detail = "parameters are values, not templates: ${ } is rendered in `with`, not here"
            reading.report("not_rendered", detail, f"/params/{_token(name)}")
    for pointer, text in _literals(definition):
        _lint_secret(reading, pointer, text)


def _report_within(
    reading: Reading, code: str, detail: str, pointer: str, expression: Expression, column: int
) -> None:
    """Report at a column of an expression, which may stand within a longer text."""
    text = at_pointer(reading.v1, pointer)
    at = text.find(expression.text) if isinstance(text, str) else -1
    reading.report(code, detail, pointer, column=at + column if at >= 0 else None)


def _conditions(definition: Definition) -> Iterator[Place]:
    for pointer, step in steps_of(definition):
        if step.condition is not None:
            yield f"{pointer}/if", step.condition


def _lint_condition(reading: Reading, pointer: str, expression: Expression, kinds: frozenset[str]) -> None:
    """A condition whose value cannot be true or false, or that is the same in every run."""
    if isinstance(at_pointer(reading.v1, pointer), bool):
        return  # switched on or off on purpose
    detail = _no_question(expression, kinds - {"null"})
    if detail:
        reading.report("not_boolean", detail, pointer)


def _no_question(expression: Expression, kinds: frozenset[str]) -> str | None:
    if not expression.paths:
        return "it asks nothing of the run, so its answer never changes: write true or false, or name what it is about"
    if kinds == {"number"}:
        return "it is a number, and every number is true, 0 included: compare it, like ... > 0"
    if kinds and kinds <= _SIZED:
        found = " or ".join(sorted(kinds))
        article = "an" if found[0] in "ao" else "a"
        return f"it is {article} {found}, which is true unless it is empty: say so, with length(...) > 0"
    return None


def _kinds(expression: Expression, definition: Definition, catalog: Catalog) -> frozenset[str]:
    """The types that the text allows; for a plain path into an output, those of the tool's output_schema."""
    (path, *others) = expression.paths or [()]
    if others or len(path) < 2 or path[0] != "steps" or ".".join(path) != expression.text.strip():
        return expression.kinds
    step = owners(definition).get(path[1])
    entry = find_tool(catalog, step.uses) if step else None
    schema: Any = output_schema(step, entry) if step and entry else {}
    for key in path[2:]:
        schema = schema.get("properties", {}).get(key) if isinstance(schema, Mapping) else None
    named = schema.get("type", ()) if isinstance(schema, Mapping) else ()
    types = {named} if isinstance(named, str) else set(named)
    return frozenset("number" if each == "integer" else each for each in types)


def _literals(definition: Definition) -> Iterator[tuple[str, str]]:
    """Every text that is written out: what steps are given, what stands in for them, params."""
    yield from _texts("/params", definition.params)
    for pointer, step in steps_of(definition):
        yield from _texts(f"{pointer}/with", step.arguments.source)
        if step.foreach is not None:
            yield from _texts(f"{pointer}/foreach", step.foreach.source)
        if isinstance(step.on_error, Mapping):
            yield from _texts(f"{pointer}/on_error/value", step.on_error["value"].source)
    if definition.output is not None:
        yield from _texts("/output", definition.output.source)


def _texts(pointer: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield pointer, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(f"{pointer}/{_token(key)}", item)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts(f"{pointer}/{number}", item)


def _lint_secret(reading: Reading, pointer: str, text: str) -> None:
    for match in scan(text)["pii"]:
        if match["type"] == "api_key":
            detail = (
                "a key in the open, which everybody who may read this file can use: write ${secrets.NAME}"
            )
            reading.report("secret", detail, pointer, column=match["start"] + 1)
            return


def _token(key: object) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")
