"""Who reads which name, and when: outputs nobody reads, parameters nobody gives, steps read before they have run."""

from __future__ import annotations

from collections.abc import Mapping

from engine.contract.wording import closest
from engine.pipeline.definition import Definition
from engine.pipeline.lint.walk import expressions_of, report_at, step_expressions, steps_of
from engine.pipeline.reading import Reading


def lint_names(reading: Reading, definition: Definition) -> None:
    """Findings about names."""
    _lint_unused(reading, definition)
    _lint_params(reading, definition)
    _lint_order(reading, definition)


def _lint_unused(reading: Reading, definition: Definition) -> None:
    paths = [path for _, expression in expressions_of(definition) for path in expression.paths]
    read = {path[1] for path in paths if path[0] == "steps" and len(path) > 1}
    if any(path in (("steps",), ("steps", "*")) for path in paths):
        return  # everything is read
    for pointer, step in steps_of(definition):
        if step.save_as and step.save_as not in read:
            reading.report("unused", f"nothing reads steps.{step.save_as}", f"{pointer}/save_as")


def _lint_params(reading: Reading, definition: Definition) -> None:
    known = _known_params(definition)
    for pointer, expression in expressions_of(definition) if known is not None else ():
        for path in sorted(expression.paths):
            if path[0] == "params" and len(path) > 1 and path[1] not in {*(known or ()), "*"}:
                detail = f"there is no parameter '{path[1]}'{closest(path[1], known or ())}"
                report_at(reading, "unknown_param", detail, pointer, path)


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
        for pointer, expression in step_expressions(step, f"/steps/{position}"):
            for path in sorted(expression.paths):
                name = owner.get(path[1]) if path[0] in ("steps", "status") and len(path) > 1 else None
                if name is not None and name not in before[step.id]:
                    report_at(
                        reading, "used_before", _too_early(definition, step.id, name, path), pointer, path
                    )


def _too_early(definition: Definition, reader: str, name: str, path: tuple[str, ...]) -> str:
    if name == reader:
        return f"'{name}' reads its own {path[0]}.{path[1]}, which is null until it has ended"
    how = f"add it to `needs` of '{reader}'" if definition.is_graph else f"put it before '{reader}'"
    return f"'{name}' has not run when '{reader}' reads {path[0]}.{path[1]}: {how}"


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
