"""What the executor is given and what it answers: the plan of a definition, one run, its records, its outcome.

All values are frozen; a worker caches plans by (task, version) and persists outcomes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from graphlib import CycleError, TopologicalSorter
from typing import Any
from uuid import UUID

from engine import reflex
from engine.errors import ValidationFailed
from engine.pipeline import Definition, Step
from engine.reflex import Policy
from engine.tools.calls import Call
from engine.tools.entry import ToolEntry
from engine.tools.registry import Catalog


@dataclass(frozen=True, slots=True)
class Prepared:
    """A step with everything that does not change from run to run."""

    step: Step
    position: int
    entry: ToolEntry
    policy: Policy
    timeout: timedelta


@dataclass(frozen=True, slots=True)
class Plan:
    """A definition made ready: what a worker caches by (task, version). `probe` goes before the steps."""

    definition: Definition
    steps: tuple[Prepared, ...]
    on_failure: tuple[Prepared, ...]
    probe: Prepared | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt: who, with what, and what is known from before. `state` is what a parked run left."""

    run_id: UUID
    attempt: int
    fence: int
    trigger: str
    now: datetime
    params: Mapping[str, Any]
    task: str = ""
    scheduled_for: datetime | None = None
    event: Mapping[str, Any] | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    finished: tuple[StepRecord, ...] = ()
    agent_id: UUID | None = None
    last_attempt: bool = True


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What is kept of one step (or one item of a foreach): exactly what the gate let pass."""

    position: int
    step: str
    item: int | None
    attempt: int
    tool: str
    status: str
    tries: int
    started_at: datetime
    finished_at: datetime
    input: Any = None
    output: Any = None
    error: Mapping[str, Any] | None = None
    verdict: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON form that a checkpoint stores."""
        members = {name: getattr(self, name) for name in self.__slots__}
        return members | {name: members[name].isoformat() for name in ("started_at", "finished_at")}

    @classmethod
    def of(cls, members: Mapping[str, Any]) -> StepRecord:
        """The inverse of `as_dict`."""
        times = {name: datetime.fromisoformat(members[name]) for name in ("started_at", "finished_at")}
        return cls(**{**members, **times})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: succeeded, failed, blocked, timed_out, or parked until `delay` has passed.

    skipped: a condition was not met, and nothing is left to write.
    """

    status: str
    output: Any = None
    error: Mapping[str, Any] | None = None
    steps: tuple[StepRecord, ...] = ()
    retryable: bool = False
    retry_after: timedelta | None = None
    delay: timedelta | None = None
    state: Mapping[str, Any] | None = None


async def as_told(_record: StepRecord, met: bool) -> bool:
    """The pipeline follows whenever its condition holds: for whoever keeps no account of earlier answers."""
    return met


@dataclass(frozen=True, slots=True)
class Ports:
    """What the executor needs of its surroundings. `clock` is the database's time.

    `decide` is told a probe's record and whether its condition holds, and answers whether the pipeline follows; if so,
    the record is checkpointed by then.
    """

    call: Callable[[ToolEntry, dict[str, Any], Call], Awaitable[Any]]
    checkpoint: Callable[[StepRecord], Awaitable[None]]
    clock: Callable[[], datetime]
    secret: Callable[[str], str | None]
    max_output_bytes: int = 1_048_576
    decide: Callable[[StepRecord, bool], Awaitable[bool]] = as_told


def prepare(definition: Definition, catalog: Catalog) -> Plan:
    """Bind a definition to its tools and policies, its steps in an order that `needs` allows.

    Raises NotFound for a tool that is not in the catalog, ValidationFailed when `needs` go in a circle.
    """

    def bind(position: int, step: Step) -> Prepared:
        entry = catalog.get(step.uses)
        policy = reflex.strictest(definition.reflex, entry.reflex, step.reflex)
        return Prepared(step, position, entry, policy, step.timeout or entry.timeout)

    probe = bind(0, definition.probe.step) if definition.probe else None
    first = 0 if probe is None else 1
    steps = tuple(bind(i, step) for i, step in enumerate(_ordered(definition), first))
    tail = tuple(bind(i, step) for i, step in enumerate(definition.on_failure, first + len(steps)))
    return Plan(definition, steps, tail, probe)


def _ordered(definition: Definition) -> list[Step]:
    """The steps one after the other; with `needs`, those that are ready in the document's order."""
    if not definition.is_graph:
        return list(definition.steps)
    by_id = {step.id: step for step in definition.steps}
    place = {step.id: number for number, step in enumerate(definition.steps)}
    sorter = TopologicalSorter({step.id: step.needs or () for step in definition.steps})
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValidationFailed(f"`needs` go in a circle: {' → '.join(error.args[1])}") from error
    order: list[Step] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=place.__getitem__)
        order.extend(by_id[name] for name in ready)
        sorter.done(*ready)
    return order
