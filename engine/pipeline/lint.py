"""What is legal in a definition and yet cannot work, or seldom means what it says.

Most findings are warnings; `is_error` tells the few that no run could survive. A catalog is handed in: the
room knows no tools.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from engine.contract import compile_schema
from engine.contract.wording import closest
from engine.errors import Problem, ValidationFailed
from engine.expressions import Expression
from engine.pipeline.availability import unavailable
from engine.pipeline.definition import Definition, Probe, Step
from engine.pipeline.documents import Document
from engine.pipeline.reading import Reading, at_pointer
from engine.pipeline.seed import place_in_seed


class ToolEntry(Protocol):
    """What lint reads of a catalog entry."""

    @property
    def input_schema(self) -> Mapping[str, Any]: ...
    @property
    def output_schema(self) -> Mapping[str, Any]: ...


Catalog = Mapping[str, ToolEntry]
"""Entries by address, and by `address@version` where versions are kept."""

_CONDITION = "/schedule/condition"
Place = tuple[str, Expression]
"""An expression and the pointer of its text in the v1 form."""


def is_error(problem: Problem) -> bool:
    """Whether a finding of `lint` must be mended before the definition can be used."""
    return problem.code in ("unknown_tool", "unknown_step", "unknown_root", "not_available")


def lint(definition: Definition, catalog: Catalog, document: Document | None = None) -> list[Problem]:
    """Findings about `definition`, in the order of the document; lines and columns if it is handed in too."""
    place_of = place_in_seed if definition.source_format == "seed" else str
    reading = Reading(document or Document(definition.document), definition.document, place_of)
    for pointer in unavailable(definition):
        name = pointer.rsplit("/", 1)[-1]
        reading.report("not_available", f"this version does not execute {name}; take it out", pointer)
    _lint_schedule(reading, definition)
    _lint_tools(reading, definition, catalog)
    _lint_names(reading, definition)
    _lint_order(reading, definition)
    _lint_outputs(reading, definition, catalog)
    _lint_texts(reading, definition)
    return sorted(dict.fromkeys(reading.problems), key=lambda each: (each.line or 0, each.column or 0))


def find_tool(catalog: Catalog, uses: str) -> ToolEntry | None:
    """The entry that a step's `uses` names, its version included; None when there is none."""
    return catalog.get(uses)


def expressions_of(definition: Definition) -> Iterator[Place]:
    """Every expression of the pipeline with its place; `when` of a condition is not one, it sees an output alone."""
    for pointer, step in _steps_of(definition):
        yield from _expressions_of(step, pointer)
    if definition.output is not None:
        yield from _within("/output", definition.output.expressions)


def _expressions_of(step: Step, pointer: str) -> Iterator[Place]:
    yield from _within(f"{pointer}/with", step.arguments.expressions)
    if step.condition is not None:
        yield f"{pointer}/if", step.condition
    if step.foreach is not None:
        yield from _within(f"{pointer}/foreach", step.foreach.expressions)
    if isinstance(step.on_error, Mapping):
        yield from _within(f"{pointer}/on_error/value", step.on_error["value"].expressions)


def _within(pointer: str, expressions: Iterable[Place]) -> Iterator[Place]:
    return ((pointer + below, expression) for below, expression in expressions)


def _steps_of(definition: Definition) -> Iterator[tuple[str, Step]]:
    """Every tool call with its place, the probe's first."""
    if definition.probe is not None:
        yield f"{_CONDITION}/probe", definition.probe.step
    for key, steps in (("steps", definition.steps), ("on_failure", definition.on_failure)):
        for position, step in enumerate(steps):
            yield f"/{key}/{position}", step


def _lint_schedule(reading: Reading, definition: Definition) -> None:
    for warning in definition.schedule.compile().warnings:
        reading.report("schedule", warning, f"/schedule/{definition.schedule.kind}")


def _lint_tools(reading: Reading, definition: Definition, catalog: Catalog) -> None:
    for pointer, step in _steps_of(definition):
        entry = find_tool(catalog, step.uses)
        if entry is None:
            detail = f"there is no tool '{step.uses}' in the catalog{closest(step.uses, catalog)}"
            reading.report("unknown_tool", detail, f"{pointer}/uses")
        else:
            _lint_input(reading, f"{pointer}/with", step, entry)


def _lint_input(reading: Reading, pointer: str, step: Step, entry: ToolEntry) -> None:
    """Hold what is literal in `with` against the tool's input_schema."""
    try:
        contract = compile_schema(entry.input_schema)
    except ValidationFailed:
        return  # the catalog's own fault, told when it was loaded
    rendered = [below for below, _ in step.arguments.expressions]
    for problem in contract.check(contract.with_defaults(step.arguments.source), show_keys=True):
        if problem.code in ("missing", "unknown_key") or not _touches(problem.pointer, rendered):
            reading.report("input_schema", f"{step.uses}: {problem.detail}", pointer + problem.pointer)


def _touches(pointer: str, rendered: list[str]) -> bool:
    """Whether a template stands at `pointer` or below it: then only a run can tell."""
    return any(each == pointer or each.startswith(f"{pointer}/") for each in rendered)


def _lint_names(reading: Reading, definition: Definition) -> None:
    """`save_as` that nobody reads, and params that nobody gives."""
    paths = [path for _, expression in expressions_of(definition) for path in expression.paths]
    read = {path[1] for path in paths if path[0] == "steps" and len(path) > 1}
    everything = any(path in (("steps",), ("steps", "*")) for path in paths)
    for pointer, step in _steps_of(definition):
        if step.save_as and step.save_as not in read and not everything:
            detail = f"nothing reads steps.{step.save_as}"
            reading.report("unused", detail, f"{pointer}/save_as")
    known = _known_params(definition)
    for pointer, expression in expressions_of(definition) if known is not None else ():
        for path in sorted(expression.paths):
            if path[0] == "params" and len(path) > 1 and path[1] not in {*(known or ()), "*"}:
                detail = f"there is no parameter '{path[1]}'{closest(path[1], known or ())}"
                _report_at(reading, "unknown_param", detail, pointer, path)


def _known_params(definition: Definition) -> set[str] | None:
    """The parameters a run can have, or None when it may have any."""
    schema = definition.params_schema
    if schema is None:
        return set(definition.params) or None
    if not isinstance(schema, Mapping) or "properties" not in schema:
        return None
    return {*schema["properties"], *definition.params}


def _lint_order(reading: Reading, definition: Definition) -> None:
    """Steps read before they have run: their output is null then."""
    owner = {name: step.id for step in definition.steps for name in step.names}
    before = _before(definition)
    for position, step in enumerate(definition.steps):
        for pointer, expression in _expressions_of(step, f"/steps/{position}"):
            for path in sorted(expression.paths):
                name = owner.get(path[1]) if path[0] in ("steps", "status") and len(path) > 1 else None
                if name is not None and name not in before[step.id]:
                    how = f"add it to `needs` of '{step.id}'" if definition.is_graph else "put it before"
                    detail = f"'{name}' has not run when '{step.id}' reads {path[0]}.{path[1]}: {how}"
                    _report_at(reading, "used_before", detail, pointer, path)


def _before(definition: Definition) -> dict[str, set[str]]:
    """For each step the steps that are done when it begins."""
    done: dict[str, set[str]] = {}
    if not definition.is_graph:
        for step in definition.steps:
            done[step.id] = set(done)
        return done
    needs = {step.id: step.needs or () for step in definition.steps}
    for start in needs:
        reached: set[str] = set()
        waiting = list(needs[start])
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting += needs[name]
        done[start] = reached
    return done


def _lint_outputs(reading: Reading, definition: Definition, catalog: Catalog) -> None:
    """Fields of outputs that the tool's output_schema does not have."""
    probe = definition.probe
    first = (probe.step,) if probe else ()
    owner = {
        name: step for step in (*first, *definition.steps) for name in step.names if step.foreach is None
    }
    for pointer, expression in expressions_of(definition):
        for path in sorted(expression.paths):
            step = owner.get(path[1]) if path[0] == "steps" and len(path) > 2 else None
            entry = find_tool(catalog, step.uses) if step else None
            if step is not None and entry is not None:
                lacking, known = _lacking(entry.output_schema, path[2:])
                if lacking:
                    detail = f"the output of {step.uses} has no '{lacking}'{closest(lacking, known)}"
                    _report_at(reading, "output_schema", detail, pointer, path)
    entry = find_tool(catalog, probe.step.uses) if probe else None
    if probe is not None and entry is not None:
        _lint_when(reading, probe, entry)


def _lint_when(reading: Reading, probe: Probe, entry: ToolEntry) -> None:
    """What the condition reads of the probe's output, from its root on."""
    for path in sorted(probe.when.paths):
        lacking, known = _lacking(entry.output_schema, path)
        if lacking:
            detail = f"the output of {probe.step.uses} has no '{lacking}'{closest(lacking, known)}"
            _report_at(reading, "output_schema", detail, f"{_CONDITION}/when", path)


def _lacking(schema: Any, path: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """The first key of `path` that a value of `schema` does not have, and those that it has."""
    for key in path:
        if not isinstance(schema, Mapping):
            break
        if key == "*":
            schema = schema.get("items")
            continue
        properties = schema.get("properties")
        if not properties or schema.get("additionalProperties") not in (None, False):
            break
        if key not in properties:
            return key, list(properties)
        schema = properties[key]
    return None, []


def _lint_texts(reading: Reading, definition: Definition) -> None:
    """Constructs that rarely mean what they say."""
    when = [(f"{_CONDITION}/when", definition.probe.when)] if definition.probe else []
    for pointer, expression in (*when, *expressions_of(definition)):
        for trap, _ in expression.traps:
            reading.report("trap", trap, pointer)
    for name, value in definition.params.items():
        if isinstance(value, str) and "${" in value:
            detail = "parameters are values, not templates: ${ } is rendered in `with`, not here"
            reading.report("not_rendered", detail, f"/params/{name.replace('~', '~0').replace('/', '~1')}")


def _report_at(reading: Reading, code: str, detail: str, pointer: str, path: tuple[str, ...]) -> None:
    """Report at the column where `path` begins in its text, if it can be found there."""
    text = at_pointer(reading.v1, pointer)
    at = text.find(".".join(path[:2])) if isinstance(text, str) else -1
    reading.report(code, detail, pointer, column=at + 1 if at >= 0 else None)
