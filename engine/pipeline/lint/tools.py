"""Steps held against their tools: what they give them, and what they read of their answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.contract import compile_schema
from engine.contract.wording import closest
from engine.errors import ValidationFailed
from engine.pipeline.definition import Definition, Probe, Step
from engine.pipeline.lint.walk import (
    CONDITION,
    Catalog,
    ToolEntry,
    expressions_of,
    find_tool,
    report_at,
    steps_of,
    unknown_tool,
)
from engine.pipeline.reading import Reading

Lack = tuple[str | None, list[str]]
"""The first key of a path that a value does not have, and those that it has."""
_SPENT = ("max_tokens", "max_cost_usd")


def lint_tools(reading: Reading, definition: Definition, catalog: Catalog) -> None:
    """Unknown tools, literal input they refuse, fields they do not answer with, a budget that nobody reports to."""
    for pointer, step in steps_of(definition):
        entry = find_tool(catalog, step.uses)
        fault = unknown_tool(step.uses, catalog)
        if fault is not None:
            reading.report(fault.code, fault.detail, f"{pointer}/uses")
        elif entry is not None:
            _lint_input(reading, f"{pointer}/with", step, entry)
            _lint_secrets(reading, f"{pointer}/with", step, entry)
    _lint_outputs(reading, definition, catalog)
    _lint_budget(reading, definition, catalog)


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


def _lint_secrets(reading: Reading, pointer: str, step: Step, entry: ToolEntry) -> None:
    """A secret that is none of the tool's own, where the catalog says which are."""
    for below, expression in step.arguments.expressions if entry.secrets else ():
        for path in sorted(expression.paths):
            if path[0] == "secrets" and len(path) > 1 and path[1] not in entry.secrets:
                known = ", ".join(entry.secrets)
                detail = f"{step.uses} may not be given the secret {path[1]}; its catalog entry names {known}"
                report_at(reading, "secret_not_allowed", detail, pointer + below, path)


def _touches(pointer: str, rendered: list[str]) -> bool:
    """Whether a template stands at `pointer` or below it: then only a run can tell."""
    return any(each == pointer or each.startswith(f"{pointer}/") for each in rendered)


def _lint_outputs(reading: Reading, definition: Definition, catalog: Catalog) -> None:
    """Fields of outputs that the tool's output_schema does not have."""
    owner = owners(definition)
    for pointer, expression in expressions_of(definition):
        for path in sorted(expression.paths):
            step = owner.get(path[1]) if path[0] == "steps" and len(path) > 2 else None
            entry = find_tool(catalog, step.uses) if step else None
            if step is not None and entry is not None:
                _lint_path(reading, pointer, path, step, entry)
    probe = definition.probe
    entry = find_tool(catalog, probe.step.uses) if probe else None
    if probe is not None and entry is not None:
        _lint_when(reading, probe, entry)


def owners(definition: Definition) -> dict[str, Step]:
    """Steps by the names that their outputs are read by."""
    first = (definition.probe.step,) if definition.probe else ()
    return {name: step for step in (*first, *definition.steps) for name in step.names}


def output_schema(step: Step, entry: ToolEntry) -> Mapping[str, Any]:
    """The schema of what `steps.<id>` holds: of a foreach, a list of the tool's outputs."""
    return entry.output_schema if step.foreach is None else {"type": "array", "items": entry.output_schema}


def _lint_path(reading: Reading, pointer: str, path: tuple[str, ...], step: Step, entry: ToolEntry) -> None:
    key = path[2]
    if step.foreach is not None and key != "*":
        name = f"steps.{path[1]}"
        detail = f"{name} is a list, one output for each item: write {name}[*].{key} for all, {name}[0].{key} for one"
        report_at(reading, "output_schema", detail, pointer, path)
        return
    lacking, known = lack(output_schema(step, entry), path[2:])
    if lacking:
        detail = f"the output of {step.uses} has no '{lacking}'{closest(lacking, known)}"
        report_at(reading, "output_schema", detail, pointer, path)


def _lint_when(reading: Reading, probe: Probe, entry: ToolEntry) -> None:
    """What the condition reads of the probe's output, from its root on."""
    for path in sorted(probe.when.paths):
        lacking, known = lack(entry.output_schema, path)
        if lacking:
            detail = f"the output of {probe.step.uses} has no '{lacking}'{closest(lacking, known)}"
            report_at(reading, "output_schema", detail, f"{CONDITION}/when", path)


def lack(schema: Any, path: tuple[str, ...]) -> Lack:
    """What a value of `schema` lacks of `path`; nothing where the schema does not say."""
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


def _lint_budget(reading: Reading, definition: Definition, catalog: Catalog) -> None:
    """A limit of what tools report, where the schema of every one of them says that it reports nothing."""
    limits = [name for name in _SPENT if name in definition.budget]
    entries = [find_tool(catalog, step.uses) for step in definition.steps]
    if not limits or any(entry is None or not lack(entry.output_schema, ("usage",))[0] for entry in entries):
        return
    for name in limits:
        detail = "no tool of this pipeline reports its usage, so nothing is ever counted against it"
        reading.report("never_spent", detail, f"/budget/{name}")
