"""What the executor is given and what it answers: the plan of a definition, one run, its records, its outcome.

All values are frozen; a worker caches plans by (task, version) and persists outcomes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from graphlib import CycleError, TopologicalSorter
from operator import attrgetter
from typing import Any
from uuid import UUID

from engine import reflex
from engine.errors import ValidationFailed
from engine.gate.asking import Ask
from engine.pipeline import Definition, Step
from engine.reflex import Policy
from engine.reflex.digests import Pardon
from engine.retry import RetryPolicy
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
    retry: RetryPolicy


@dataclass(frozen=True, slots=True)
class Order:
    """Steps by position, and when each may begin: `needs` says how many others it waits for, `followers` who waits."""

    steps: tuple[Prepared, ...] = ()
    needs: Mapping[str, int] = field(default_factory=dict)
    followers: Mapping[str, tuple[Prepared, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """A definition made ready: what a worker caches by (task, version).

    `probe` goes before the steps. `secrets` are the names that the pipeline asks for, `scopes` what its tools ask
    of the author.
    """

    definition: Definition
    steps: Order
    on_failure: Order
    probe: Order
    secrets: frozenset[str]
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt: who, with what, and what is known from before.

    `state` is what the run left when it was parked, given back or failed (its shape: `engine.execution.waits`).
    """

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

    @property
    def budget(self) -> Mapping[str, Any]:
        """What the run itself may spend, beside its pipeline's budget: a submission says it with its goal.

        A definition's own parameter of that name stands in for it, and may be anything: what is no limit is none.
        """
        given = self.params.get("budget") if self.trigger == "submit" else None
        limits = given.items() if isinstance(given, Mapping) else ()
        return {name: most for name, most in limits if type(most) in (int, float)}

    @property
    def counted(self) -> int:
        """The attempts that retries count: one that was blocked and released goes on in the next."""
        return self.attempt - releases(self.state)


def releases(state: Mapping[str, Any] | None) -> int:
    """How often the run of this state was released."""
    return int(((state or {}).get("released") or {}).get("count", 0))


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What is kept of one step (or one item of a foreach): exactly what the gate let pass.

    `usage` is what its tool reported over all tries, {tokens, cost_usd}, in a run that has a budget. A status `running`
    is a checkpoint's alone: the step's list, fixed before its first item is called, as `input`.
    """

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
    usage: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON form that a checkpoint stores."""
        members = dict(zip(self.__slots__, _MEMBERS(self), strict=True))
        members["started_at"], members["finished_at"] = (
            self.started_at.isoformat(),
            self.finished_at.isoformat(),
        )
        return members

    @classmethod
    def of(cls, members: Mapping[str, Any]) -> StepRecord:
        """The inverse of `as_dict`. What a newer worker has added is left out: both run while an upgrade lasts."""
        known = {name: members[name] for name in cls.__slots__ if name in members}
        times = {name: datetime.fromisoformat(members[name]) for name in ("started_at", "finished_at")}
        return cls(**{**known, **times})


@dataclass(frozen=True, slots=True)
class Hold:
    """What a blocked run needs to go on, should it be released.

    `findings` are those that block, each with its step, item and direction; `records` what is done and not to be
    done again; `state` that of its next lease.
    """

    findings: tuple[Mapping[str, Any], ...]
    records: tuple[StepRecord, ...]
    state: Mapping[str, Any]


_MEMBERS = attrgetter(*StepRecord.__slots__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: succeeded, failed, blocked, timed_out, or parked until `delay` has passed.

    skipped: a condition was not met, and nothing is left to write. expired: the run was given up before, and
    `on_failure` has run. `state` is for the next lease or the next attempt, `hold` for a release.
    """

    status: str
    output: Any = None
    error: Mapping[str, Any] | None = None
    steps: tuple[StepRecord, ...] = ()
    retryable: bool = False
    retry_after: timedelta | None = None
    delay: timedelta | None = None
    state: Mapping[str, Any] | None = None
    hold: Hold | None = None


async def as_told(_record: StepRecord, met: bool) -> bool:
    """The pipeline follows whenever its condition holds: for whoever keeps no account of earlier answers."""
    return met


async def at_own_risk(_state: Mapping[str, Any]) -> None:
    """Nothing is kept: for whoever has no other lease to go on with."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What the executor needs of its surroundings. `clock` is the database's time. `remember` keeps a state that the
    next lease finds should this one be lost: that the run has failed, before its on_failure steps begin.

    `decide` is told a probe's record and whether its condition holds, and answers whether the pipeline follows; if so,
    the record is checkpointed by then. `ask` is a remote gate; None where the gate is in process. `pardon` lets
    findings pass that people have marked as false; `gate_key` makes the digests of what the gate blocks.
    """

    call: Callable[[ToolEntry, dict[str, Any], Call], Awaitable[Any]]
    checkpoint: Callable[[StepRecord], Awaitable[None]]
    clock: Callable[[], datetime]
    secret: Callable[[str], str | None]
    max_output_bytes: int = 1_048_576
    decide: Callable[[StepRecord, bool], Awaitable[bool]] = as_told
    remember: Callable[[Mapping[str, Any]], Awaitable[None]] = at_own_risk
    ask: Ask | None = None
    pardon: Pardon | None = None
    gate_key: bytes = b""


def prepare(definition: Definition, catalog: Catalog) -> Plan:
    """Bind a definition to its tools and policies, its steps in an order that `needs` allows.

    Raises NotFound for a tool that is not in the catalog, ValidationFailed when `needs` go in a circle.
    """

    def bind(position: int, step: Step) -> Prepared:
        entry = catalog.get(step.uses)
        policy = reflex.strictest(definition.reflex, entry.reflex, step.reflex)
        retry = step.retry or entry.retry or RetryPolicy()
        return Prepared(step, position, entry, policy, step.timeout or entry.timeout, retry)

    probe = _order((definition.probe.step,) if definition.probe else (), 0, bind)
    steps = _order(definition.steps, len(probe.steps), bind)
    tail = _order(definition.on_failure, len(probe.steps) + len(steps.steps), bind)
    orders = (probe, steps, tail)
    scopes = frozenset(scope for order in orders for one in order.steps for scope in one.entry.scopes)
    return Plan(definition, steps, tail, probe, _secrets(definition, orders), scopes)


def _secrets(definition: Definition, orders: Sequence[Order]) -> frozenset[str]:
    templates = [one.step.arguments for order in orders for one in order.steps]
    templates += [
        one.step.on_error["value"]
        for order in orders
        for one in order.steps
        if isinstance(one.step.on_error, Mapping)
    ]
    templates += [definition.output] if definition.output is not None else []
    paths = {path for template in templates for path in template.paths}
    named = {path[1] for path in paths if path[0] == "secrets" and len(path) > 1}
    return frozenset(named.union(*(one.entry.secrets for order in orders for one in order.steps)))


def _order(steps: Sequence[Step], first: int, bind: Callable[[int, Step], Prepared]) -> Order:
    """Numbers from `first` on, in an order that `needs` allow; without any, each step needs the one before it."""
    if any(step.needs is not None for step in steps):
        needs = {step.id: step.needs or () for step in steps}
        steps = _sorted(steps, needs)
    else:
        needs = dict(zip((step.id for step in steps), [(), *((step.id,) for step in steps)], strict=False))
    bound = tuple(bind(position, step) for position, step in enumerate(steps, first))
    followers = {step.id: tuple(one for one in bound if step.id in needs[one.step.id]) for step in steps}
    return Order(bound, {name: len(set(needed)) for name, needed in needs.items()}, followers)


def _sorted(steps: Sequence[Step], needs: Mapping[str, tuple[str, ...]]) -> list[Step]:
    """Those that are ready together in the document's order."""
    place = {step.id: number for number, step in enumerate(steps)}
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValidationFailed(f"`needs` go in a circle: {' → '.join(error.args[1])}") from error
    order: list[Step] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=place.__getitem__)
        order.extend(steps[place[name]] for name in ready)
        sorter.done(*ready)
    return order
