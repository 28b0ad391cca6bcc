"""The executor: a compiled pipeline and a context in, an Outcome out.

It sees tools and the gate, never rows: what must outlive a crash goes through the `checkpoint` port, and the
Outcome is a frozen value that somebody else persists. The rooms below `engine.execution` carry the steps out; here
is what an attempt is made of, and how it ends: its output, its time, `on_failure`, and the state for the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from engine import reflex
from engine.errors import (
    DueworkError,
    GateBlocked,
    GateUnavailable,
    OutputInvalid,
    ToolError,
    ValidationFailed,
)
from engine.execution.budget import Budget, tightest
from engine.execution.calling import Calling
from engine.execution.course import Course
from engine.execution.journal import Journal, unended_lists
from engine.execution.pardons import Place
from engine.execution.tries import Tries
from engine.execution.units import Ending, Unit
from engine.execution.waits import read_waits, started_at
from engine.pipeline import parse_definition
from engine.pipeline.definition import PROBE
from engine.plan import Hold, Order, Outcome, Plan, Ports, Run, StepRecord, prepare
from engine.retry import may_retry
from engine.secrets import Secrets
from engine.settings import Settings
from engine.storable import check_storable
from engine.tools.registry import load_catalog
from engine.tools.toolbox import open_toolbox

ELSEWHERE = {"code": "canceled", "message": "the run ended while this step was waiting"}
UNSUCCESSFUL = ("failed", "timed_out", "blocked")


@dataclass(frozen=True, slots=True)
class Limit:
    """How long the attempt may still go on, and how it ends then."""

    left: timedelta
    outcome: Outcome


class Attempt:
    """The state of one attempt: the context that expressions see, and the records so far.

    `execute` answers with an Outcome; only cancellation, LeaseLost and StoreUnavailable escape it. `records` and
    `state` stay readable.
    """

    def __init__(self, plan: Plan, run: Run, ports: Ports) -> None:
        now = ports.clock()
        self.plan = plan
        self.run = run
        self.ports = ports
        self.started = started_at(run, now)
        self.secrets = Secrets(ports.secret, plan.secrets if run.finished else ())
        self.journal = Journal(run.finished)
        limits = tightest(plan.definition.budget, run.budget)
        self.budget = Budget(limits, run.state.get("usage", {}), run.finished, now)
        self.context = self._context()
        self._calling = Calling(run, ports, self.secrets)
        self._course: Course | None = None
        self._failure: Outcome | None = None
        self._blocked: Mapping[str, Any] | None = None

    @property
    def steps(self) -> dict[str, Any]:
        """The outputs so far, by every name that they are read by."""
        return self.journal.steps

    @property
    def records(self) -> tuple[StepRecord, ...]:
        """What is to be kept of the steps so far, in their order."""
        return self.journal.records

    def _context(self) -> dict[str, Any]:
        run = self.run
        scheduled = run.scheduled_for.isoformat() if run.scheduled_for else None
        facts = {"id": str(run.run_id), "attempt": run.attempt, "task": run.task, "scheduled_for": scheduled}
        return {
            "params": run.params,
            "steps": self.journal.steps,
            "status": self.journal.status,
            "now": run.now.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "run": facts,
            "trigger": {"kind": run.trigger},
            "event": run.event,
            "secrets": self.secrets,
        }

    async def execute(self) -> Outcome:
        """Carry out what is left of the run."""
        failure = self.run.state.get("failure")
        if failure is not None:
            self._blocked = failure.get("blocked")
            self.abandon("canceled", ELSEWHERE)
            return await self._aftermath(Outcome(failure["status"], error=failure["error"]))
        outcome = await self._in_time()
        return await self._failed(outcome) if outcome.status in UNSUCCESSFUL else outcome

    def state(self, kind: str = "steps") -> dict[str, Any]:
        """What the next lease of this attempt has to know; as `later`, what another attempt has to."""
        waits = read_waits(self.run.state) if self._course is None else self._course.waits()
        if kind == "later":  # waits go on, tries begin anew
            waits = {
                key: replace(wait, tries=0) for key, wait in waits.items() if wait.resumed and wait.until
            }
        usage = self.budget.carried(self.ports.clock())
        made: dict[str, Any] = {kind: {key: wait.as_dict() for key, wait in waits.items()}} if waits else {}
        if usage:
            made["usage"] = usage
        if self.run.state.get("released"):
            made["released"] = self.run.state["released"]
        if self._failure is not None:
            made["failure"] = {"status": self._failure.status, "error": self._failure.error}
            if self._blocked is not None:
                made["failure"]["blocked"] = self._blocked
        if kind == "later":
            return made
        return made | {"attempt": self.run.attempt, "started_at": self.started.isoformat()}

    def abandon(self, status: str, error: Mapping[str, Any]) -> None:
        """Give every step that is under way or waits a row that says how it ended."""
        if self._course is not None:
            self._course.abandon(status, error)
        now = self.ports.clock()
        orders = [self.plan.probe, self.plan.steps]
        if self._failure is not None:  # else they are still to come
            orders.append(self.plan.on_failure)
        steps = {one.step.id: one for order in orders for one in order.steps}
        for ended in unended_lists(self.run.finished, status, now, error):
            if ended.step in steps and not self.journal.has(ended.step, None):
                self.journal.write(ended)
        for key, wait in read_waits(self.run.state).items():  # of those that nobody has come to in this lease
            step, _, item = key.partition(":")
            place = (step, int(item) if item else None)
            if step in steps and not self.journal.has(*place):
                unit = Unit(steps[step], wait.started or self.started, {}, place[1], wait.tries)
                self.journal.write(unit.record(status, self.run.attempt, now, error=error))

    async def _in_time(self) -> Outcome:
        limit = self._limit()
        if limit is None:
            return await self._pipeline()
        try:
            if limit.left <= timedelta(0):
                raise TimeoutError
            async with asyncio.timeout(limit.left.total_seconds()):
                return await self._pipeline()
        except TimeoutError:
            self.abandon("timed_out", limit.outcome.error or {})
            return limit.outcome

    def _limit(self) -> Limit | None:
        """The run's timeout or the budget's time, whichever ends first."""
        timeout = self.plan.definition.timeout
        if timeout is None and not self.budget.limits:
            return None
        now, limits = self.ports.clock(), []
        if timeout is not None:
            error = {"code": "timeout", "message": f"the run took longer than its timeout of {timeout}"}
            outcome = Outcome("timed_out", error=error, retryable=True)
            limits.append(Limit(self.started + timeout - now, outcome))
        left = self.budget.left(now)
        if left is not None:
            limits.append(Limit(left, Outcome("failed", error=self.budget.out_of_time().as_dict())))
        return min(limits, key=lambda limit: limit.left, default=None)

    async def _pipeline(self) -> Outcome:
        if self.plan.probe.steps:
            ended = await self._probe()
            if ended is not None:
                return ended
        return await self._follow(self.plan.steps) or await self._succeeded()

    async def _probe(self) -> Outcome | None:
        """Call the probe like any step; None when the pipeline follows.

        That is decided once, and only for an instant of the schedule: a run that was asked for goes on in any case.
        """
        probe = self.plan.definition.probe
        decided = self.run.trigger != "condition" or self.journal.known(PROBE) is not None
        ended = await self._follow(self.plan.probe, keep=decided)
        if ended is not None or decided or probe is None:
            return ended
        record = self.journal.record(PROBE)
        try:
            met = probe.when.holds(record.output)
        except ValidationFailed as error:
            failure = OutputInvalid(f"when: {error}")
            told = self._calling.described(failure)
            record = replace(record, status="failed", output=None, error=told, verdict=None)
            self.journal.write(record)
            return _outcome(Ending(record, failure), failure)
        if not await self.ports.decide(record, met):
            return Outcome("skipped")
        self.budget.recorded(record)
        return None

    async def _follow(self, order: Order, *, after: bool = False, keep: bool = True) -> Outcome | None:
        """Take the steps of one order as far as they go; None when all have ended well."""
        tries = Tries(self._calling, self.budget, free=after, keep=keep)
        waits = read_waits(self.run.state)
        if after:  # the others have their rows
            waits = {key: wait for key, wait in waits.items() if key.partition(":")[0] in order.needs}
        course = self._course = Course(order, tries, self.journal, self.context, waits, tolerant=after)
        await course.run()
        if course.failed is not None and course.failed.error is not None:
            return _outcome(course.failed, course.failed.error)
        return self._parked(course) if course.waiting else None

    def _parked(self, course: Course) -> Outcome:
        """Until the first of those that wait goes on, or the run's time is over."""
        now, timeout = self.ports.clock(), self.plan.definition.timeout
        instants = [course.until or now]
        if timeout is not None and self._failure is None:
            instants.append(self.started + timeout)
        for record in self.records:  # whoever parks the run checkpoints them all
            self.budget.recorded(record)
        delay = max(min(instants) - now, timedelta(0))
        return Outcome("parked", delay=delay, state=self.state(), steps=self.records)

    async def _succeeded(self) -> Outcome:
        """The pipeline's own output, gated like a step's."""
        template = self.plan.definition.output
        if template is None:
            return Outcome("succeeded", steps=self.records)
        try:
            output = self.secrets.conceal(template.render(self.context))
            check_storable(output, self.ports.max_output_bytes)
            policy = reflex.strictest(self.plan.definition.reflex)
            place = Place(None, None, "output")
            output = await self._calling.judge({}, place, output, policy)
        except GateBlocked as error:
            return Outcome("blocked", error={**self._calling.described(error), "step": "output"})
        except GateUnavailable as error:
            told = {**self._calling.described(error), "step": "output"}
            return Outcome("failed", error=told, retryable=True, retry_after=error.retry_after)
        except (ValidationFailed, OutputInvalid) as error:
            return Outcome("failed", error={**self._calling.described(error), "step": "output"})
        return Outcome("succeeded", output=output, steps=self.records)

    async def _failed(self, outcome: Outcome) -> Outcome:
        """With attempts left the next goes on from here; else what waits is over, and on_failure follows."""
        retry = self.plan.definition.retry
        code = str((outcome.error or {}).get("code"))
        if not self.run.last_attempt and may_retry(retry, code, outcome.retryable, self.run.counted):
            return replace(outcome, steps=self.records, state=self.state("later") or None)
        if outcome.status == "blocked":
            failed = sorted(self.journal.failed, key=str)
            found = list(self._calling.pardons.blocked)  # what on_failure adds has not ended the run
            self._blocked = {"findings": found, "failed": failed}
        self.abandon("canceled", ELSEWHERE)
        return await self._aftermath(outcome)

    async def _aftermath(self, outcome: Outcome) -> Outcome:
        """After the last attempt the on_failure steps run; their own failures change nothing."""
        if self.plan.on_failure.steps:
            self._failure = outcome
            self.context["error"] = outcome.error
            if (
                "failure" not in self.run.state
            ):  # or a lease lost from here on would begin with the steps again
                await self.ports.remember(self.state("later"))
            for prepared in (*self.plan.probe.steps, *self.plan.steps.steps):
                self.journal.recall(prepared)
            parked = await self._follow(self.plan.on_failure, after=True)
            if parked is not None:
                return parked
        return replace(outcome, steps=self.records, hold=self._hold())

    def _hold(self) -> Hold | None:
        """What a release needs; None where the gate did not end the run, or nothing is named that could pass."""
        if self._blocked is None or not self._blocked["findings"]:
            return None
        self.journal.failed |= {(step, item) for step, item in self._blocked["failed"]}
        steps = {one.step.id for order in (self.plan.probe, self.plan.steps) for one in order.steps}
        usage, released = self.budget.carried(self.ports.clock()), self.run.state.get("released")
        state = {name: each for name, each in (("usage", usage), ("released", released)) if each}
        return Hold(tuple(self._blocked["findings"]), self.journal.resumable(steps), state)


def _outcome(ending: Ending, error: DueworkError) -> Outcome:
    status = "blocked" if isinstance(error, GateBlocked) else "failed"
    described = {**(ending.record.error or {}), "step": ending.record.step}
    return Outcome(status, error=described, retryable=error.retryable, retry_after=error.retry_after)


def run_pipeline(task: Mapping[str, Any]) -> dict[str, Any]:
    """Run a task's pipeline here and now, without a database: the seeds' way to try one (003).

    `task` is a definition in either format, or just {"payload": {"pipeline": […], "params": {…}}}. Answers the
    context {now, params, steps}. Raises the step's error as a DueworkError.
    """
    return asyncio.run(_run_pipeline(task))


async def _run_pipeline(task: Mapping[str, Any]) -> dict[str, Any]:
    settings = Settings()
    document = dict(task)
    if "payload" in document:
        document = {"title": "pipeline", "schedule_kind": "manual", "schedule_expr": "", **document}
    definition = parse_definition(document)
    plan = prepare(definition, load_catalog(settings))
    now = datetime.now(UTC)
    run = Run(uuid4(), 1, 0, "run_now", now, definition.params)

    async def forget(_record: StepRecord) -> None:
        """Nothing outlives this call."""

    async with open_toolbox(settings, None) as toolbox:
        ports = Ports(toolbox.call, forget, lambda: datetime.now(UTC), lambda _name: None)
        attempt = Attempt(plan, run, ports)
        outcome = await attempt.execute()
    if outcome.status != "succeeded":
        error = dict(outcome.error or {"code": outcome.status, "message": f"the run is {outcome.status}"})
        raise ToolError(str(error.get("message")), details=error)
    return {"now": attempt.context["now"], "params": dict(run.params), "steps": attempt.steps}
