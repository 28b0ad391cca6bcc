"""One call of a tool, from the template to the output that the gate let pass.

render → input schema → gate in → secrets put in → tool → output schema → gate out
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from engine import reflex
from engine.errors import (
    DueworkError,
    GateBlocked,
    InputInvalid,
    OutputInvalid,
    Problem,
    ToolTimeout,
    ValidationFailed,
)
from engine.execution.foreach import as_items
from engine.execution.pardons import Pardons, Place
from engine.execution.patience import within
from engine.execution.units import Unit
from engine.gate.asking import judged
from engine.plan import Ports, Prepared, Run
from engine.reflex import Policy
from engine.secrets import Secrets
from engine.storable import check_storable, storable
from engine.template import Template
from engine.tools.calls import Call
from engine.tools.entry import ToolEntry

STORING = frozenset({"event.publish", "task.run_now", "core.approval", "core.wait_event"})
"""Tools whose input becomes rows of duework's own."""
ASKING = 10.0
"""Seconds that a remote gate has at least for what it is asked."""
TOGETHER = 64
"""All outputs of a run together have at most this many times the bytes that one may have."""


class Calling:
    """Calls tools for one attempt. What may be stored of a call is left in its unit, also when it fails."""

    def __init__(self, run: Run, ports: Ports, secrets: Secrets) -> None:
        self.run = run
        self.ports = ports
        self.secrets = secrets
        self.pardons = Pardons(ports.gate_key, run.run_id, run.state.get("released"), ports.pardon)
        self._prefix = f"{run.run_id}:"
        self._stored = sum(len(json.dumps(record.output)) for record in run.finished)

    async def once(self, unit: Unit, reported: Callable[[Unit, Any], None]) -> Any:
        """The output of one call. `reported` is told what the tool answered, whatever becomes of it.

        Raises DueworkError, and what the tool raises to wait: Parked.
        """
        prepared = unit.prepared
        clock = asyncio.get_running_loop().time
        ends = clock() + prepared.timeout.total_seconds()
        arguments = self._rendered(unit)
        place = Place(unit.step, unit.item, "input")
        if "input" in prepared.policy.on:
            seconds = prepared.timeout.total_seconds()
            arguments = await self.judge(unit.verdicts, place, arguments, prepared.policy, seconds)
        unit.input = self.secrets.conceal(arguments)
        if place in self.pardons.used:  # what was released is for the tool; nobody needs it in history
            unit.input = reflex.cleaned(unit.input)
        output = await self._answer(unit, self._revealed(prepared.entry, arguments))
        reported(unit, output)
        return await self._checked(unit, output, ends - clock())

    async def rendered_list(self, unit: Unit, template: Template) -> list[Any]:
        """What a foreach renders to, as the gate lets it pass: it is stored before it is used."""
        try:
            items = as_items(template.render(unit.context))
            check_storable(items, self.ports.max_output_bytes, "the list")
        except (ValidationFailed, OutputInvalid) as error:
            raise InputInvalid(f"foreach: {error}", errors=error.errors) from error
        if "input" in unit.prepared.policy.on:
            place = Place(unit.step, unit.item, "input")
            items = await self.judge(unit.verdicts, place, items, unit.prepared.policy)
        return items

    async def stand_in(self, unit: Unit, template: Template, error: Mapping[str, Any]) -> Any:
        """The value that `on_error` goes on with: an output like any other."""
        value = self.secrets.conceal(template.render({**unit.context, "error": error}))
        check_storable(value, self.ports.max_output_bytes)
        place = Place(unit.step, unit.item, "output")
        return await self.judge(unit.verdicts, place, value, unit.prepared.policy)

    def described(self, error: DueworkError) -> dict[str, Any]:
        """An error as it may be stored."""
        told = reflex.cleaned(storable(self.secrets.conceal(error.as_dict())))
        return told if isinstance(told, dict) else {"code": error.code, "message": told}

    async def judge(
        self, verdicts: dict[str, Any], place: Place, value: Any, policy: Policy, seconds: float = 0.0
    ) -> Any:
        """The value as the gate lets it pass; the verdict is noted. Raises GateBlocked and GateUnavailable.

        A remote gate has as many `seconds`, and at least ASKING: what has been called is not called again for haste.
        """
        judging = partial(
            reflex.judge,
            value,
            policy,
            exempt=self.secrets.is_placeholder,
            pardoned=self.pardons.pardoned(place),
            fingerprint=self.pardons.fingerprint(place),
        )
        if self.ports.ask is None:
            verdict = judging()
        else:
            most = max(seconds, ASKING)
            verdict = await judged(self.ports.ask, most, lambda search: judging(search=search))
        if verdict.action != "pass":
            verdicts[place.direction] = verdict.as_dict()
        if verdict.action == "block":
            self.pardons.note(place, verdict)
            kinds = ", ".join(sorted({finding.kind_or_family for finding in verdict.findings}))
            whose = "run" if place.step is None else "step"
            text = f"the gate refused the {whose}'s {place.direction}: {kinds}"
            raise GateBlocked(text, details={"direction": place.direction})
        return verdict.value

    def _rendered(self, unit: Unit) -> dict[str, Any]:
        entry = unit.prepared.entry
        try:
            arguments = unit.prepared.step.arguments.render(unit.context)
            check_storable(arguments, TOGETHER * self.ports.max_output_bytes, "the input")
        except (ValidationFailed, OutputInvalid) as error:
            raise InputInvalid(f"with: {error}", errors=error.errors) from error
        checked: dict[str, Any] = entry.input.with_defaults({} if arguments is None else arguments)
        # What the tool will see is what its schema is about: a secret's own form, not its placeholder's.
        problems = entry.input.check(self._revealed(entry, checked))
        if problems:
            text = f"the input of {entry.address} is not valid: {_first(problems)}"
            raise InputInvalid(text, errors=problems)
        return checked

    def _revealed(self, entry: ToolEntry, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments with their secrets: for the schema's eyes, and for the call."""
        if entry.address in STORING and self.secrets.conceal(arguments) != arguments:
            raise InputInvalid(
                f"{entry.address} stores its input, and a secret is never stored; "
                "name it as ${secrets.NAME} in the pipeline that needs it"
            )
        try:
            revealed: dict[str, Any] = self.secrets.reveal(arguments, entry.secrets or None)
        except ValidationFailed as error:
            raise InputInvalid(str(error), errors=error.errors) from error
        return revealed

    async def _answer(self, unit: Unit, arguments: dict[str, Any]) -> Any:
        prepared = unit.prepared
        call = Call(
            run_id=self.run.run_id,
            step=unit.step,
            idempotency_key=self._prefix + unit.key,
            fence=self.run.fence,
            attempt=unit.tries,
            timeout=prepared.timeout,
            resumed=unit.resumed,
            agent_id=self.run.agent_id,
            item=unit.item,
            secrets=self.secrets,
        )
        try:
            most = prepared.timeout + prepared.entry.patience
            return await within(most, self.ports.call(prepared.entry, arguments, call))
        except TimeoutError as error:
            text = f"{prepared.entry.address} did not answer within {prepared.timeout}"
            raise ToolTimeout(text) from error
        except ValidationFailed as error:
            raise InputInvalid(str(error), errors=error.errors) from error

    async def _checked(self, unit: Unit, output: Any, seconds: float) -> Any:
        prepared: Prepared = unit.prepared
        self._stored += check_storable(output, self.ports.max_output_bytes)
        if self._stored > TOGETHER * self.ports.max_output_bytes:
            text = f"the outputs of the run's steps have {self._stored} bytes together; "
            limit = f"the limit is {TOGETHER} times DUEWORK_MAX_OUTPUT_BYTES"
            raise OutputInvalid(text + limit)
        problems = prepared.entry.output.check(output)
        if problems:
            text = f"the output of {prepared.entry.address} is not valid: {_first(problems)}"
            raise OutputInvalid(text, errors=problems)
        output = self.secrets.conceal(output)
        if "output" in prepared.policy.on:
            place = Place(unit.step, unit.item, "output")
            output = await self.judge(unit.verdicts, place, output, prepared.policy, seconds)
        return output


def _first(problems: Sequence[Problem]) -> str:
    return f"{problems[0].pointer or '/'}: {problems[0].detail}"
