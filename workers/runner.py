"""The runner: one lease in, one settlement out."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from engine import db, reflex, telemetry
from engine import settings as settings_
from engine.contract import compile_schema
from engine.db import Connection, Pool
from engine.errors import DueworkError, GateUnavailable, LeaseLost, StoreUnavailable
from engine.execution.journal import LIST, unended_lists
from engine.execution.waits import unended_waits
from engine.executor import Attempt
from engine.gate.asking import Ask
from engine.metrics import Metrics
from engine.pipeline import parse_definition
from engine.plan import Outcome, Plan, Ports, Run, StepRecord, prepare, releases
from engine.retry import delay_after, may_retry
from engine.settings import Settings
from engine.storable import storable
from engine.store import gate_key, leases, tasks
from engine.store.allowances import AllowList
from engine.store.leases import Lease
from engine.store.runs import accepted_at
from engine.tools.calls import Call
from engine.tools.entry import ToolEntry
from engine.tools.registry import Catalog
from engine.tools.toolbox import Toolbox
from workers.permits import Permits
from workers.settler import Settlement

T = TypeVar("T")

OUTAGE = timedelta(seconds=1)
"""How long to wait before trying a database again that does not answer."""
PLANS = 1000
"""Compiled definitions that one process keeps, by (task, version)."""


@dataclass(slots=True)
class Held:
    """One lease that this process holds: when it runs out by the local clock, and why it must stop, if so.

    `finished` are the steps of earlier leases, `kept` those whose records a checkpoint holds by now; `checkpointed`
    says whether it holds anything. While it is `deciding`, the row may go in the very statement that it waits for.
    """

    lease: Lease
    deadline: float
    began: float
    received: float
    stop: str | None = None
    task: asyncio.Task[None] | None = None
    finished: tuple[StepRecord, ...] = ()
    deciding: bool = False
    kept: set[tuple[str, int | None]] = field(default_factory=set)
    checkpointed: bool = False

    def keep(self, record: StepRecord) -> None:
        """A checkpoint holds this record; that of a list is not yet what becomes of its step."""
        self.checkpointed = True
        if record.status != LIST:
            self.kept.add((record.step, record.item))

    def resume(self, finished: Iterable[StepRecord]) -> None:
        """Go on from what earlier leases have checkpointed."""
        self.finished = tuple(finished)
        for record in self.finished:
            self.keep(record)

    def clock(self) -> datetime:
        """Database time: the lease's own instant plus what has passed here since; a clock change cannot move it."""
        return self.lease.leased_at + timedelta(seconds=time.monotonic() - self.began)

    def early(self) -> float:
        """Seconds until the run is due. Counted from the lease's arrival here, which no clock of the database's can be
        behind, so that nothing starts before its instant."""
        known = self.lease.leased_at + timedelta(seconds=time.monotonic() - self.received)
        return (self.lease.run_at - known).total_seconds()


class Runner:
    """Executes leases with one toolbox and one catalog; definitions are compiled once per version."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        toolbox: Toolbox,
        catalog: Catalog,
        metrics: Metrics,
        ask: Ask | None = None,
    ) -> None:
        self.ask = ask
        self.settings = settings
        self.pool = pool
        self.toolbox = toolbox
        self.catalog = catalog
        self.metrics = metrics
        self.permits = Permits(pool)
        self.allowed = AllowList(settings, pool)
        self._gate_key: bytes | None = None
        self._plans: dict[tuple[UUID, int], tuple[Plan, Mapping[str, Any]]] = {}
        self._log = telemetry.logger("workers.runner")

    def reload(self, catalog: Catalog) -> None:
        """Use another catalog for attempts that begin from now on; those under way keep the plans they have."""
        self.catalog = catalog
        self._plans = {}

    async def run(self, held: Held) -> Settlement | None:
        """Execute one lease; None when it was lost, so that nothing may be written."""
        started = held.clock()
        self.metrics.start_lateness.observe(max(0.0, (started - held.lease.run_at).total_seconds()))
        attempt: Attempt | None = None
        try:
            attempt = await self._attempt(held)
            started = attempt.started
            outcome = await attempt.execute()
            if outcome.status == "parked":
                await self._park(held, outcome)
        except LeaseLost:
            held.stop = "lost"
            return None
        except asyncio.CancelledError:
            if held.stop is None:
                raise
            return self.stopped(held, started, attempt)
        except StoreUnavailable:
            return _given_back(held.lease, started, OUTAGE, _state(held, attempt))
        except DueworkError as error:
            described = _described(error, attempt)
            steps = attempt.records if attempt else _rows(held, "canceled", described)
            outcome = Outcome("failed", error=described, steps=steps, retryable=error.retryable)
        except Exception as error:  # the last edge: a defect of ours ends as a failed run, not as a lost one
            told = hidden("".join(traceback.format_exception(error)), attempt)
            run_id, kind = str(held.lease.run_id), type(error).__name__
            self._log.error("run.failed", run_id=run_id, kind=kind, exception=told)
            described = {"code": "internal_error", "message": type(error).__name__}
            steps = attempt.records if attempt else _rows(held, "canceled", described)
            outcome = Outcome("failed", error=described, steps=steps)
        return self._settlement(held, started, outcome, attempt)

    async def _attempt(self, held: Held) -> Attempt:
        lease = held.lease
        plan, defaults = await self._plan(lease)
        await self.permits.check(lease.task_id, lease.task_version, plan)
        retry = plan.definition.retry
        run = Run(
            run_id=lease.run_id,
            attempt=lease.attempt,
            fence=lease.fence,
            trigger=lease.trigger,
            now=lease.scheduled_for or accepted_at(lease.run_id),
            params=defaults if lease.params is None else lease.params,
            task=plan.definition.name or "",
            scheduled_for=lease.scheduled_for,
            event=lease.event,
            state=lease.state or {},
            finished=held.finished,
            agent_id=lease.created_by,
            last_attempt=lease.attempt - releases(lease.state) >= retry.max_attempts,
        )
        return Attempt(plan, run, self._ports(held, await self._key()))

    async def _key(self) -> bytes:
        if self._gate_key is None:
            async with db.connection(self.pool) as conn:
                self._gate_key = await gate_key.load(conn, self.settings)
        return self._gate_key

    async def _plan(self, lease: Lease) -> tuple[Plan, Mapping[str, Any]]:
        key = (lease.task_id, lease.task_version)
        known = self._plans.get(key)
        if known is not None:
            return known
        async with db.transaction(self.pool) as conn:
            document = await tasks.definition(conn, *key)
        definition = parse_definition(document)
        params = dict(definition.params)
        if isinstance(definition.params_schema, Mapping):
            params = compile_schema(definition.params_schema).with_defaults(params)
        made = prepare(definition, self.catalog), params
        if len(self._plans) >= PLANS:
            self._plans.pop(next(iter(self._plans)))
        self._plans[key] = made
        return made

    def _ports(self, held: Held, gate_key: bytes) -> Ports:
        async def call(entry: ToolEntry, arguments: dict[str, Any], given: Call) -> Any:
            # A worker that was stopped past its lease must not act on waking: the row is somebody else's now.
            if time.monotonic() >= held.deadline:
                raise LeaseLost("the lease ran out while the process was not running")
            return await self.toolbox.call(entry, arguments, given)

        async def checkpoint(record: StepRecord) -> None:
            await self._checkpoint(held, record)

        def secret(name: str) -> str | None:
            return settings_.secret(name, self.settings)

        async def decide(record: StepRecord, met: bool) -> bool:
            return await self._decide(held, record, met=met)

        async def remember(state: Mapping[str, Any]) -> None:
            lease = held.lease
            await self._held_on(
                held, lambda conn: leases.remember(conn, lease.run_id, lease.fence, dict(state))
            )

        most, pardon = self.settings.max_output_bytes, self.allowed.pardon(held.lease.task_id)
        return Ports(call, checkpoint, held.clock, secret, most, decide, remember, self.ask, pardon, gate_key)

    async def _checkpoint(self, held: Held, record: StepRecord) -> None:
        """Write one finished step. Raises LeaseLost."""
        lease = held.lease
        item = -1 if record.item is None else record.item

        async def write(conn: Connection) -> bool:
            return await leases.checkpoint(
                conn, lease.run_id, lease.fence, record.step, item, record.as_dict()
            )

        held.checkpointed = True  # it may be written without our hearing of it
        await self._held_on(held, write)
        held.keep(record)

    async def _decide(self, held: Held, record: StepRecord, *, met: bool) -> bool:
        """Write what a probe found; whether the pipeline follows. Raises LeaseLost."""
        lease = held.lease

        async def write(conn: Connection) -> str | None:
            async with conn.transaction() if lease.concurrency_key is not None else nullcontext():
                return await leases.decide(
                    conn, lease.run_id, lease.fence, record.step, record.as_dict(), met=met
                )

        held.deciding = True
        decision = await self._held_on(held, write)
        held.deciding = decision != "fired"
        self.metrics.probes.labels(decision).inc()
        self._log.debug("condition.decided", run_id=str(lease.run_id), decision=decision)
        if decision == "fired":
            held.keep(record)
        return decision == "fired"

    async def _held_on(self, held: Held, write: Callable[[Connection], Awaitable[T]]) -> T:
        """A fenced statement's answer, through outages, for as long as the lease lasts. Raises LeaseLost."""
        lease = held.lease
        while time.monotonic() < held.deadline:
            try:
                async with db.connection(self.pool) as conn:
                    answer = await write(conn)
            except StoreUnavailable:
                await asyncio.sleep(OUTAGE.total_seconds())
                continue
            if answer:
                return answer
            break
        raise LeaseLost(f"run {lease.run_id} is no longer held under fence {lease.fence}")

    async def _park(self, held: Held, outcome: Outcome) -> None:
        """Keep every finished step, so that the next lease goes on where this one waits.

        Items first: a foreach that is known to have ended is one whose items are known, wherever the lease is lost.
        """
        for record in sorted(outcome.steps, key=lambda one: one.item is None):
            if (record.step, record.item) not in held.kept:
                await self._checkpoint(held, record)

    def stopped(
        self, held: Held, started: datetime | None = None, attempt: Attempt | None = None
    ) -> Settlement | None:
        """What becomes of a run that was cancelled locally: lost, given back by a drain, or canceled."""
        lease = held.lease
        if held.stop == "lost":
            return None
        if held.stop == "drain":
            return _given_back(lease, started, timedelta(0), _state(held, attempt))
        error = {"code": "canceled", "message": held.stop}
        if attempt is not None:
            attempt.abandon("canceled", error)
        return Settlement(
            "settle",
            lease.run_id,
            lease.fence,
            status="canceled",
            started_at=started,
            finished_at=held.clock(),
            error=error,
            steps=attempt.records if attempt else _rows(held, "canceled", error),
            checkpointed=held.checkpointed,
        )

    def _settlement(
        self, held: Held, started: datetime, outcome: Outcome, attempt: Attempt | None
    ) -> Settlement:
        lease = held.lease
        if outcome.status == "parked":
            return _given_back(lease, started, outcome.delay or timedelta(0), outcome.state)
        if outcome.status == "skipped":
            return Settlement("decided", lease.run_id, lease.fence)
        delay = self._retry_delay(lease, outcome, attempt)
        steps = outcome.steps
        if delay is not None:  # checkpointed steps are written once, when the run ends
            steps = tuple(one for one in steps if (one.step, one.item) not in held.kept)
        ending = "settle" if outcome.hold is None else "hold"
        return Settlement(
            ending if delay is None else "retry",
            lease.run_id,
            lease.fence,
            status=outcome.status,
            started_at=started,
            finished_at=held.clock(),
            error=outcome.error,
            output=outcome.output,
            steps=steps,
            delay=delay or timedelta(0),
            state=outcome.state,
            hold=outcome.hold,
            checkpointed=held.checkpointed,
            task_id=lease.task_id,
        )

    def _retry_delay(self, lease: Lease, outcome: Outcome, attempt: Attempt | None) -> timedelta | None:
        """When to try again; None when the run is over. The error's class decides, never its words."""
        if outcome.status not in ("failed", "timed_out") or attempt is None:
            return None
        policy = attempt.plan.definition.retry
        code = str((outcome.error or {}).get("code"))
        if not may_retry(policy, code, outcome.retryable, attempt.run.counted):
            return None
        return delay_after(policy, attempt.run.counted, str(lease.run_id), outcome.retry_after)


def _state(held: Held, attempt: Attempt | None) -> Mapping[str, Any] | None:
    """What the next lease of the same attempt goes on from; as it was, when this one has not begun."""
    return held.lease.state if attempt is None else attempt.state()


def _rows(held: Held, status: str, error: Mapping[str, Any]) -> tuple[StepRecord, ...]:
    """The records of earlier leases, for a run that ends before its attempt has begun; what had not ended ends so."""
    now, finished = held.clock(), held.finished
    ended = [one for one in finished if one.status != LIST]
    ended += unended_lists(finished, status, now, error)
    known = {(one.step, one.item) for one in ended}
    waiting = unended_waits(held.lease.state or {}, held.lease.attempt, status, now, error)
    return (*ended, *(one for one in waiting if (one.step, one.item) not in known))


def _described(error: DueworkError, attempt: Attempt | None) -> dict[str, Any]:
    """An error that ended an attempt outside of its steps, as it may be stored."""
    try:
        told = reflex.cleaned(storable(hidden(error.as_dict(), attempt)))
    except GateUnavailable:
        told = None
    return told if isinstance(told, dict) else {"code": error.code, "message": type(error).__name__}


def hidden(value: Any, attempt: Attempt | None) -> Any:
    """`value` without the secrets that the attempt was given: an exception quotes what it stumbled over."""
    return value if attempt is None else attempt.secrets.conceal(value)


def _given_back(
    lease: Lease, started: datetime | None, delay: timedelta, state: Mapping[str, Any] | None
) -> Settlement:
    """The attempt does not count; `started` None says that it never began."""
    return Settlement("release", lease.run_id, lease.fence, started_at=started, delay=delay, state=state)
