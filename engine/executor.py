"""The executor: a compiled pipeline and a context in, an Outcome out.

It sees tools and the gate, never rows: what must outlive a crash goes through the `checkpoint` port, and the
Outcome is a frozen value that somebody else persists. The order of each step is

    if → render → input schema → gate in → secrets put in → tool → output schema → gate out → checkpoint
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from engine import reflex
from engine.errors import (
    DueworkError,
    GateBlocked,
    InputInvalid,
    LeaseLost,
    OutputInvalid,
    Problem,
    StoreUnavailable,
    ToolError,
    ToolTimeout,
    ValidationFailed,
)
from engine.pipeline import parse_definition
from engine.plan import Outcome, Plan, Ports, Prepared, Run, StepRecord, prepare
from engine.reflex import Policy, Verdict
from engine.retry import delay_after, may_retry
from engine.secrets import Secrets
from engine.settings import Settings
from engine.storable import check_storable
from engine.tools.calls import Call, Parked
from engine.tools.registry import load_catalog
from engine.tools.toolbox import open_toolbox

STORING = frozenset({"event.publish", "task.run_now"})
"""Tools whose input becomes rows of duework's own."""
INLINE = timedelta(seconds=1)
"""A wait up to this long keeps the worker; a longer one parks the run, so that no lease is slept through."""


class _StepFailed(Exception):
    """Ends a run from within: the step's record is written."""

    def __init__(self, record: StepRecord, error: DueworkError) -> None:
        super().__init__(str(error))
        self.record = record
        self.error = error


class _StepParked(Exception):
    """The run waits at `step`; `tries` are the calls that the step has used up."""

    def __init__(self, step: str, delay: timedelta, tries: int, *, resumed: bool) -> None:
        super().__init__(step)
        self.delay = delay
        self.state = {"step": step, "tries": tries, "resumed": resumed}


class Attempt:
    """The state of one attempt: the context that expressions see, and the records so far.

    `execute` answers with an Outcome; only cancellation, LeaseLost and StoreUnavailable escape it. `records` stay
    readable.
    """

    def __init__(self, plan: Plan, run: Run, ports: Ports) -> None:
        self.plan = plan
        self.run = run
        self.ports = ports
        self.secrets = Secrets(ports.secret)
        self.records: list[StepRecord] = []
        self.steps: dict[str, Any] = {}
        self.status: dict[str, str] = {}
        self.context = self._context()

    def _context(self) -> dict[str, Any]:
        run = self.run
        scheduled = run.scheduled_for.isoformat() if run.scheduled_for else None
        facts = {"id": str(run.run_id), "attempt": run.attempt, "task": run.task, "scheduled_for": scheduled}
        return {
            "params": run.params,
            "steps": self.steps,
            "status": self.status,
            "now": run.now.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "run": facts,
            "trigger": {"kind": run.trigger},
            "event": run.event,
            "secrets": self.secrets,
        }

    async def execute(self) -> Outcome:
        limit = self.plan.definition.timeout
        try:
            async with asyncio.timeout(limit.total_seconds() if limit else None):
                return await self._steps_and_output()
        except TimeoutError:
            error = {"code": "timeout", "message": f"the run took longer than its timeout of {limit}"}
            return await self._failed(Outcome("timed_out", error=error, retryable=True))
        except _StepFailed as failure:
            return await self._failed(self._outcome(failure))
        except _StepParked as parked:
            steps = tuple(self.records)
            return Outcome("parked", delay=parked.delay, state=parked.state, steps=steps)

    async def _steps_and_output(self) -> Outcome:
        if self.plan.probe is not None and not await self._probe(self.plan.probe):
            return Outcome("skipped")
        for prepared in self.plan.steps:
            await self._step(prepared)
        try:
            output = self._output()
        except GateBlocked as error:
            return await self._failed(Outcome("blocked", error={**error.as_dict(), "step": "output"}))
        except (ValidationFailed, OutputInvalid) as error:
            return await self._failed(Outcome("failed", error={**error.as_dict(), "step": "output"}))
        return Outcome("succeeded", output=output, steps=tuple(self.records))

    async def _probe(self, prepared: Prepared) -> bool:
        """Call the probe like any step; whether the pipeline follows.

        That is decided once, and only for an instant of the schedule: a run that was asked for goes on in any case.
        """
        probe = self.plan.definition.probe
        if probe is None or self.run.trigger != "condition" or self._known(prepared):
            await self._step(prepared)
            return True
        started = self.ports.clock()
        record = await self._tries(prepared, started)
        try:
            met = probe.when.holds(record.output)
        except ValidationFailed as error:
            failure = OutputInvalid(f"when: {error}")
            raise self._give_up(prepared, started, record.tries, failure, record.input, {}) from error
        self._keep(prepared, record)
        return await self.ports.decide(record, met)

    def _output(self) -> Any:
        """The pipeline's own output, gated like a step's."""
        template = self.plan.definition.output
        if template is None:
            return None
        output = self.secrets.conceal(template.render(self.context))
        check_storable(output, self.ports.max_output_bytes)
        return self._gate(_Sight(), "output", output, reflex.strictest(self.plan.definition.reflex))

    def _outcome(self, failure: _StepFailed) -> Outcome:
        error = failure.error
        status = "blocked" if isinstance(error, GateBlocked) else "failed"
        described = {**(failure.record.error or {}), "step": failure.record.step}
        return Outcome(status, error=described, retryable=error.retryable, retry_after=error.retry_after)

    async def _failed(self, outcome: Outcome) -> Outcome:
        """After the last attempt the on_failure steps run once; their own failures change nothing."""
        retry = self.plan.definition.retry
        code = str((outcome.error or {}).get("code"))
        final = self.run.last_attempt or not may_retry(retry, code, outcome.retryable, self.run.attempt)
        if final and self.plan.on_failure:
            self.context["error"] = outcome.error
            for prepared in self.plan.on_failure:
                try:
                    await self._step(prepared)
                except (_StepFailed, _StepParked):
                    continue
        return replace(outcome, steps=tuple(self.records))

    async def _step(self, prepared: Prepared) -> None:
        step, known = prepared.step, self._known(prepared)
        if known is not None:
            self._keep(prepared, known)
            return
        started = self.ports.clock()
        try:
            if step.condition is not None and not step.condition.holds(self.context):
                self._keep(prepared, self._record(prepared, "skipped", 0, started))
                return
        except ValidationFailed as error:
            raise self._give_up(prepared, started, 0, InputInvalid(f"if: {error}"), None, {}) from error
        record = await self._tries(prepared, started)
        self._keep(prepared, record)
        if not prepared.entry.idempotent:
            await self.ports.checkpoint(record)

    def _known(self, prepared: Prepared) -> StepRecord | None:
        """What an earlier lease has done already."""
        return next((one for one in self.run.finished if one.step == prepared.step.id), None)

    def _keep(self, prepared: Prepared, record: StepRecord) -> None:
        self.records.append(record)
        self.status[record.step] = record.status
        value = record.output
        self.steps[record.step] = value
        if prepared.step.save_as:
            self.steps[prepared.step.save_as] = value

    async def _tries(self, prepared: Prepared, started: datetime) -> StepRecord:
        """Call the step until it succeeds or its retry policy is spent; waits longer than INLINE park the run."""
        state = self.run.state if self.run.state.get("step") == prepared.step.id else {}
        tries = int(state.get("tries", 0))
        resumed = bool(state.get("resumed"))
        while True:
            tries += 1
            sight = _Sight()
            try:
                output = await self._call(prepared, tries, sight, resumed=resumed)
                return self._succeeded(prepared, started, tries, sight, output)
            except (LeaseLost, StoreUnavailable):
                raise  # not the step's failure: the run is somebody else's, or is given back until the outage ends
            except Parked as parked:
                resumed = parked.called or resumed
                raise _StepParked(prepared.step.id, parked.delay, tries - 1, resumed=resumed) from parked
            except DueworkError as error:
                retry = prepared.step.retry
                if not may_retry(retry, error.code, error.retryable, tries):
                    return self._recover(prepared, started, tries, error, sight)
                key = f"{self.run.run_id}:{prepared.step.id}"
                delay = delay_after(retry, tries, key, error.retry_after)
            if delay > INLINE:
                raise _StepParked(prepared.step.id, delay, tries, resumed=False)
            await asyncio.sleep(delay.total_seconds())

    async def _call(self, prepared: Prepared, tries: int, sight: _Sight, *, resumed: bool) -> Any:
        """One pass through the whole chain; `sight` keeps what may be stored of it."""
        step, entry, policy = prepared.step, prepared.entry, prepared.policy
        arguments = self._rendered(prepared)
        if "input" in policy.on:
            arguments = self._gate(sight, "input", arguments, policy)
        sight.input = self.secrets.conceal(arguments)
        call = Call(
            run_id=self.run.run_id,
            step=step.id,
            idempotency_key=f"{self.run.run_id}:{step.id}",
            fence=self.run.fence,
            attempt=tries,
            timeout=prepared.timeout,
            resumed=resumed,
            agent_id=self.run.agent_id,
            secrets=self.secrets,
        )
        try:
            async with asyncio.timeout(prepared.timeout.total_seconds()):
                output = await self.ports.call(entry, self._revealed(prepared, arguments), call)
        except TimeoutError as error:
            raise ToolTimeout(f"{entry.address} did not answer within {prepared.timeout}") from error
        except ValidationFailed as error:
            raise InputInvalid(str(error), errors=error.errors) from error
        return self._checked_output(prepared, output, sight)

    def _revealed(self, prepared: Prepared, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments with their secrets, just before the call."""
        if prepared.entry.address in STORING and self.secrets.conceal(arguments) != arguments:
            raise InputInvalid(
                f"{prepared.entry.address} stores its input, and a secret is never stored; "
                "name it as ${secrets.NAME} in the pipeline that needs it"
            )
        revealed: dict[str, Any] = self.secrets.reveal(arguments)
        return revealed

    def _rendered(self, prepared: Prepared) -> dict[str, Any]:
        try:
            arguments = prepared.step.arguments.render(self.context)
        except ValidationFailed as error:
            raise InputInvalid(f"with: {error}", errors=error.errors) from error
        arguments = prepared.entry.input.with_defaults({} if arguments is None else arguments)
        problems = prepared.entry.input.check(arguments)
        if problems:
            text = f"the input of {prepared.entry.address} is not valid: {_first(problems)}"
            raise InputInvalid(text, errors=problems)
        checked: dict[str, Any] = arguments
        return checked

    def _checked_output(self, prepared: Prepared, output: Any, sight: _Sight) -> Any:
        entry = prepared.entry
        check_storable(output, self.ports.max_output_bytes)
        problems = entry.output.check(output)
        if problems:
            text = f"the output of {entry.address} is not valid: {_first(problems)}"
            raise OutputInvalid(text, errors=problems)
        output = self.secrets.conceal(output)
        if "output" in prepared.policy.on:
            output = self._gate(sight, "output", output, prepared.policy)
        return output

    def _gate(self, sight: _Sight, direction: str, value: Any, policy: Policy) -> Any:
        verdict: Verdict = reflex.judge(value, policy, exempt=self.secrets.is_placeholder)
        if verdict.action != "pass":
            sight.verdicts[direction] = verdict.as_dict()
        if verdict.action == "block":
            kinds = ", ".join(sorted({finding.kind_or_family for finding in verdict.findings}))
            raise GateBlocked(
                f"the gate refused the step's {direction}: {kinds}", details={"direction": direction}
            )
        return verdict.value

    def _record(self, prepared: Prepared, status: str, tries: int, started: datetime) -> StepRecord:
        step, attempt, finished = prepared.step, self.run.attempt, self.ports.clock()
        return StepRecord(
            prepared.position, step.id, None, attempt, step.uses, status, tries, started, finished
        )

    def _succeeded(
        self, prepared: Prepared, started: datetime, tries: int, sight: _Sight, output: Any
    ) -> StepRecord:
        record = self._record(prepared, "succeeded", tries, started)
        return replace(record, input=sight.input, output=output, verdict=sight.verdicts or None)

    def _recover(
        self, prepared: Prepared, started: datetime, tries: int, error: DueworkError, sight: _Sight
    ) -> StepRecord:
        """Apply on_error; a step that the gate blocked always ends the run."""
        failure = self._give_up(prepared, started, tries, error, sight.input, sight.verdicts)
        mode = prepared.step.on_error
        if mode == "fail" or isinstance(error, GateBlocked):
            raise failure
        if mode == "continue":
            return failure.record
        try:
            value = self.secrets.conceal(mode["value"].render(self.context | {"error": failure.record.error}))
            check_storable(value, self.ports.max_output_bytes)
            value = self._gate(sight, "output", value, prepared.policy)
        except GateBlocked as blocked:
            raise self._give_up(prepared, started, tries, blocked, sight.input, sight.verdicts) from error
        except (ValidationFailed, OutputInvalid):
            raise failure from error
        return replace(failure.record, output=value, verdict=sight.verdicts or None)

    def _give_up(
        self,
        prepared: Prepared,
        started: datetime,
        tries: int,
        error: DueworkError,
        input_: Any,
        verdicts: Mapping[str, Any],
    ) -> _StepFailed:
        status = "failed"
        if isinstance(error, GateBlocked):
            status = "blocked"
        elif isinstance(error, ToolTimeout):
            status = "timed_out"
        described = self.secrets.conceal(error.as_dict())
        described["message"] = reflex.mask(described["message"])
        record = self._record(prepared, status, tries, started)
        record = replace(record, input=input_, error=described, verdict=verdicts or None)
        if prepared.step.on_error == "fail" or status == "blocked":
            self.records.append(record)
            self.status[record.step] = record.status
        return _StepFailed(record, error)


def _first(problems: Sequence[Problem]) -> str:
    return f"{problems[0].pointer or '/'}: {problems[0].detail}"


class _Sight:
    """What may be kept of one call: the gated input and the verdicts."""

    __slots__ = ("input", "verdicts")

    def __init__(self) -> None:
        self.input: Any = None
        self.verdicts: dict[str, Any] = {}


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
