"""The steps and expressions of a definition with the pointers of their texts, and the entries they are held against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from engine.contract.wording import closest
from engine.errors import Problem
from engine.expressions import Expression
from engine.pipeline.definition import Definition, Step
from engine.pipeline.reading import Reading, at_pointer


class ToolEntry(Protocol):
    """What lint reads of a catalog entry."""

    @property
    def input_schema(self) -> Mapping[str, Any]: ...
    @property
    def output_schema(self) -> Mapping[str, Any]: ...
    @property
    def secrets(self) -> tuple[str, ...]: ...


Catalog = Mapping[str, ToolEntry]
"""Entries by address, and by `address@version` where versions are kept."""
Place = tuple[str, Expression]
"""An expression and the pointer of its text in the v1 form."""

CONDITION = "/schedule/condition"


def find_tool(catalog: Catalog, uses: str) -> ToolEntry | None:
    """The entry that a step's `uses` names, its version included; None when there is none."""
    return catalog.get(uses)


def unknown_tool(uses: str, catalog: Catalog) -> Problem | None:
    """What to say where the catalog has no entry for `uses`; the place is left to the caller."""
    if find_tool(catalog, uses) is not None:
        return None
    detail = f"there is no tool '{uses}' in the catalog{closest(uses, catalog)}"
    return Problem("unknown_tool", detail)


def steps_of(definition: Definition) -> Iterator[tuple[str, Step]]:
    """Every tool call with its place, the probe's first."""
    if definition.probe is not None:
        yield f"{CONDITION}/probe", definition.probe.step
    for key, steps in (("steps", definition.steps), ("on_failure", definition.on_failure)):
        for position, step in enumerate(steps):
            yield f"/{key}/{position}", step


def expressions_of(definition: Definition) -> Iterator[Place]:
    """Every expression of the pipeline with its place; `when` of a condition is not one, it sees an output alone."""
    for pointer, step in steps_of(definition):
        yield from step_expressions(step, pointer)
    if definition.output is not None:
        yield from _within("/output", definition.output.expressions)


def step_expressions(step: Step, pointer: str) -> Iterator[Place]:
    """Every expression of the step that stands at `pointer`."""
    yield from _within(f"{pointer}/with", step.arguments.expressions)
    if step.condition is not None:
        yield f"{pointer}/if", step.condition
    if step.foreach is not None:
        yield from _within(f"{pointer}/foreach", step.foreach.expressions)
    if isinstance(step.on_error, Mapping):
        yield from _within(f"{pointer}/on_error/value", step.on_error["value"].expressions)


def report_at(reading: Reading, code: str, detail: str, pointer: str, path: tuple[str, ...]) -> None:
    """Report at the column where `path` begins in its text, if it can be found there."""
    text = at_pointer(reading.v1, pointer)
    at = text.find(".".join(path[:2])) if isinstance(text, str) else -1
    reading.report(code, detail, pointer, column=at + 1 if at >= 0 else None)


def _within(pointer: str, expressions: Iterable[Place]) -> Iterator[Place]:
    return ((pointer + below, expression) for below, expression in expressions)
