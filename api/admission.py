"""Admission: what a definition must pass before it is stored, in one place for every route that takes one.

    parse → lint → author → scopes of its tools → operator's floor → gate over its literals

Pure but for the gate's counter: it reads the catalog, the settings, the author's scopes and the marks of false
positives as the process has them, never rows. What the policy redacts is redacted in the stored definition too, so
the raw value is nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from api.bodies import invalid
from api.operations import Resources
from engine import door, reflex
from engine.errors import AuthorizationFailed, Problem, ValidationFailed
from engine.pipeline import Definition, Document, Step, examine, parse_definition
from engine.pipeline.lint.walk import find_tool
from engine.pipeline.seed import place_in_seed
from engine.reflex import Finding, Policy
from engine.store.agents import Agent
from engine.tools.entry import ToolEntry

LOOSEN = "reflex:loosen"


@dataclass(frozen=True, slots=True)
class Admitted:
    """A definition that may be stored. `loosened` are the policy members below the floor, for the audit."""

    definition: Definition
    warnings: tuple[Problem, ...]
    author: UUID
    loosened: tuple[str, ...] = ()


def admit(resources: Resources, document: Document, agent: Agent) -> Admitted:
    """Check a definition through and through.

    For a thread: a remote gate is waited for. Raises ValidationFailed with every problem, AuthorizationFailed for a
    missing scope, GateBlocked, GateUnavailable.
    """
    examined = examine(document, resources.catalog.entries)
    definition = examined.accepted()
    author = _author(definition, agent)
    for scope in sorted(_scopes(definition, resources)):
        agent.require(scope)
    loosened = _loosened(definition, resources)
    if loosened:
        agent.require(LOOSEN)
    definition = _gated(definition, resources)
    return Admitted(definition, examined.warnings, author, tuple(loosened))


def admit_all(resources: Resources, documents: Sequence[Document], agent: Agent) -> list[Admitted]:
    """Admit several documents; one ValidationFailed for the faults of all, pointers led by the document's number."""
    admitted: list[Admitted] = []
    refused: list[ValidationFailed | None] = [None] * len(documents)
    for number, document in enumerate(documents):
        try:
            admitted.append(admit(resources, document, agent))
        except ValidationFailed as error:
            refused[number] = error
    if any(refused):
        raise refusal(refused)
    return admitted


def refusal(refused: Sequence[ValidationFailed | None]) -> ValidationFailed:
    """One error for those of several documents, in their order; that of an only document as it is."""
    if len(refused) == 1 and refused[0]:
        return refused[0]
    problems: list[Problem] = []
    for number, error in enumerate(refused):
        faults = (error.errors or (Problem(error.code, error.message),)) if error else ()
        problems += [replace(fault, pointer=f"/{number}{fault.pointer}") for fault in faults]
    return invalid("not every definition is valid, and nothing was written", problems)


def _author(definition: Definition, agent: Agent) -> UUID:
    """The seed's `created_by`: oneself, or, for an admin, anybody."""
    if definition.created_by is None:
        return agent.id
    try:
        named = UUID(definition.created_by)
    except ValueError:
        detail = "created_by is not a UUID"
        raise ValidationFailed(detail, errors=[Problem("wrong_form", detail, "/created_by")]) from None
    if named != agent.id and not agent.allows("admin"):
        raise AuthorizationFailed(
            "only an admin may name another agent in created_by", details={"scope": "admin"}
        )
    return named


def _scopes(definition: Definition, resources: Resources) -> set[str]:
    first = (definition.probe.step,) if definition.probe else ()
    steps = (*first, *definition.steps, *definition.on_failure)
    return {scope for step in steps for scope in _entry(resources, step.uses).scopes}


def _entry(resources: Resources, uses: str) -> ToolEntry:
    entry = find_tool(resources.catalog.entries, uses)
    assert isinstance(entry, ToolEntry), "lint has reported unknown tools"
    return entry


def _loosened(definition: Definition, resources: Resources) -> list[str]:
    """What the author's own layers allow below the floor; the catalog's layer is the operator's."""
    floor = door.floor(resources.settings)
    task = _layer(definition.reflex, "/reflex")
    found = set(reflex.below_floor(reflex.strictest(task), floor))
    for key, number, step in _steps(definition):
        layer = _layer(step.reflex, f"/{key}/{number}/reflex")
        found |= set(reflex.below_floor(reflex.strictest(task, layer), floor))
    return sorted(found)


def _gated(definition: Definition, resources: Resources) -> Definition:
    """The definition with its literals as the gate lets them through. Raises GateBlocked."""
    document = dict(definition.document)
    place = place_in_seed if definition.source_format == "seed" else str
    pardon = resources.allowed.pardon(definition.name)
    refused: list[Finding] = []
    changed = False
    for pointer, value, policy in _parts(definition, resources):
        verdict = reflex.judge(value, policy, pardoned=pardon, search=resources.search)
        resources.metrics.verdicts.labels(verdict.action).inc()
        findings = (replace(each, pointer=place(pointer + each.pointer)) for each in verdict.findings)
        if verdict.action == "block":
            refused += findings
        elif verdict.action == "redact":
            document, changed = _put(document, pointer, verdict.value), True
    if refused:
        raise door.refusal(refused, "the definition")
    if not changed:
        return definition
    return replace(parse_definition(document), created_by=definition.created_by, status=definition.status)


def _parts(definition: Definition, resources: Resources) -> Iterator[tuple[str, Any, Policy]]:
    """(pointer, value, policy): the steps and the schedule under their own policies, the rest under the task's."""
    task = _layer(definition.reflex, "/reflex")
    document = definition.document
    rest = {key: value for key, value in document.items() if key not in ("schedule", "steps", "on_failure")}
    probed = (_entry(resources, definition.probe.step.uses).reflex,) if definition.probe else ()
    parts = [("", rest, reflex.strictest(task))]
    parts.append(
        ("/schedule", document["schedule"], reflex.strictest(task, *probed).below("/condition/probe/with"))
    )
    for key, number, step in _steps(definition):
        layers = (task, _entry(resources, step.uses).reflex, _layer(step.reflex, f"/{key}/{number}/reflex"))
        parts.append((f"/{key}/{number}", document[key][number], reflex.strictest(*layers).below("/with")))
    return (part for part in parts if "input" in part[2].on)


def _put(document: Mapping[str, Any], pointer: str, value: Any) -> dict[str, Any]:
    if not pointer:
        return {**document, **value}
    key, *numbers = pointer.split("/")[1:]
    if not numbers:
        return {**document, key: value}
    steps = list(document[key])
    steps[int(numbers[0])] = value
    return {**document, key: steps}


def _steps(definition: Definition) -> Iterator[tuple[str, int, Step]]:
    for key, steps in (("steps", definition.steps), ("on_failure", definition.on_failure)):
        for number, step in enumerate(steps):
            yield key, number, step


def _layer(mapping: Mapping[str, Any], pointer: str) -> dict[str, Any]:
    return reflex.parse_policy(mapping, pointer)
