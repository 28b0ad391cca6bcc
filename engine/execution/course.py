"""The course of an attempt: its steps, side by side as far as their needs allow, until all that is left waits.

    Front ──may begin──▶ if, foreach ──▶ units ──called, at most PARALLEL steps at a time──▶ records
                                           ▲ └─waits─▶ waiting ─┐
                                           └──── its time ──────┘

A unit is one call: a step's, or an item's. One that has failed closes the course: nothing begins after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from engine.errors import GateBlocked, GateUnavailable, InputInvalid, ValidationFailed
from engine.execution.foreach import Fan
from engine.execution.graph import Front
from engine.execution.journal import LIST, Journal
from engine.execution.pardons import Place
from engine.execution.tries import Tries
from engine.execution.units import Ending, Unit
from engine.execution.waits import Wait
from engine.expressions import Expression
from engine.plan import Order, Prepared
from engine.template import Template

PARALLEL = 8
"""Steps of one run that are called at a time."""
LOOK = timedelta(seconds=5)
"""How often a wait that may end early is looked at while other steps keep the run in its worker."""


class Course:
    """Takes the steps of one order as far as they go in one lease.

    `waits` are those of an earlier lease. `tolerant`: a step that fails closes nothing. After `run`, `failed` is the
    first step that ended the run, and `waiting` what has to wait.
    """

    def __init__(
        self,
        order: Order,
        tries: Tries,
        journal: Journal,
        context: Mapping[str, Any],
        waits: Mapping[str, Wait],
        *,
        tolerant: bool = False,
    ) -> None:
        self.tries = tries
        self.journal = journal
        self.context = context
        self.tolerant = tolerant
        self.failed: Ending | None = None
        self.waiting: dict[str, Unit] = {}
        self._waits = waits
        self._front = Front(order)
        self._fans: dict[str, Fan] = {}
        self._begun: dict[str, Unit] = {}
        self._done: set[str] = set()
        self._tasks: dict[asyncio.Task[Ending | None], Unit] = {}
        self._closing = False

    async def run(self) -> None:
        """Go on until every step has ended, one has failed and no other is being called, or the rest waits."""
        try:
            while True:
                units = await self._startable()
                if len(units) == 1 and not self._tasks and not self.waiting:
                    self._begun[units[0].key] = units[0]
                    self._ended(units[0], await self.tries.pursue(units[0], self._is_closing))
                    continue  # one after the other: no task is needed
                for unit in units:
                    self._start(unit)
                if not self._tasks:
                    return
                await self._some_ended()
        finally:
            await self._cancel_rest()

    @property
    def until(self) -> datetime | None:
        """The earliest instant at which one of those that wait goes on."""
        return min((unit.until for unit in self.waiting.values() if unit.until is not None), default=None)

    def waits(self) -> dict[str, Wait]:
        """What the next lease goes on from: those that wait, and the tries of those that are being called."""
        found = {key: wait for key, wait in self._waits.items() if key not in self._done}
        for key, unit in self._begun.items():
            found[key] = unit.interrupted() if unit.until is None else unit.waiting()
        return {key: wait for key, wait in found.items() if not wait.nothing}

    def abandon(self, status: str, error: Mapping[str, Any]) -> None:
        """Write a row for each step and item that began and has not ended."""
        now, attempt = self._now(), self.tries.run.attempt
        rows = [unit.record(status, attempt, now, error=error) for unit in self._begun.values()]
        rows += [fan.record(status, attempt, now, error) for fan in self._fans.values()]
        for row in rows:
            if not self.journal.has(row.step, row.item):
                self.journal.write(row)

    def _now(self) -> datetime:
        return self.tries.ports.clock()

    def _is_closing(self) -> bool:
        return self._closing

    def _start(self, unit: Unit) -> None:
        self._begun[unit.key] = unit
        task = asyncio.get_running_loop().create_task(self.tries.pursue(unit, self._is_closing))
        self._tasks[task] = unit

    async def _startable(self) -> list[Unit]:
        """What may be called now, within the bounds: what has waited first, then items, then new steps."""
        if self._closing:
            return []
        busy = {unit.step for unit in self._tasks.values()}
        due = units = [unit for unit in self._due() if _fits(unit.step, busy)] if self.waiting else []
        for fan in self._fans.values():
            units = units + self._items(fan, busy)
        while len(busy) < PARALLEL and not self._is_closing() and (prepared := self._front.take()):
            units = units + await self._begin(prepared, busy)
        if self._is_closing():  # an `if` or a list has failed
            return []
        for unit in due:
            self._wake(unit)
        return units

    def _due(self) -> list[Unit]:
        now = self._now()
        return [unit for unit in self.waiting.values() if unit.goes_on() <= now]

    def _wake(self, unit: Unit) -> None:
        del self.waiting[unit.key]
        unit.until = None
        if unit.item is not None:
            self._fans[unit.step].waits(unit.item, still=False)

    def _items(self, fan: Fan, busy: set[str]) -> list[Unit]:
        units: list[Unit] = []
        step = fan.prepared.step.id
        while (step in busy or len(busy) < PARALLEL) and (index := fan.take()) is not None:
            busy.add(step)
            context = {**self.context, "item": fan.items[index], "index": index}
            units.append(self._unit(fan.prepared, context, index))
        return units

    def _unit(self, prepared: Prepared, context: Mapping[str, Any], item: int | None = None) -> Unit:
        unit = Unit(prepared, self._now(), context, item)
        if self._waits:
            unit.restore(self._waits.get(unit.key))
        return unit

    async def _begin(self, prepared: Prepared, busy: set[str]) -> list[Unit]:
        """A step's first calls; none when it ends before it is called: known, skipped, without items, or wrong."""
        step = prepared.step
        if self.journal.recall(prepared):
            self._front.ended(step.id)
            return []
        unit = self._unit(prepared, self.context)
        try:
            if step.condition is not None and not _holds(step.condition, self.context):
                self._ended(unit, Ending(unit.record("skipped", self.tries.run.attempt, self._now())))
                return []
            if step.foreach is not None:
                return await self._fan_out(unit, step.foreach, busy)
        except (InputInvalid, GateBlocked, GateUnavailable) as error:
            self._ended(unit, await self.tries.recover(unit, error))
            return []
        busy.add(step.id)
        return [unit]

    async def _fan_out(self, unit: Unit, template: Template, busy: set[str]) -> list[Unit]:
        """Fix the list of a step, and begin its items."""
        fixed = self.journal.fixed(unit.step)
        if fixed is None:
            items = await self.tries.calling.rendered_list(unit, template)
            if not items:
                record = unit.record("succeeded", self.tries.run.attempt, self._now(), output=[])
                self._ended(unit, Ending(record))
                return []
            await self._fix(unit, items)
        else:
            items, unit.started, unit.verdicts = fixed.input, fixed.started_at, dict(fixed.verdict or {})
        known = self.journal.items(unit.step)
        fan = self._fans[unit.step] = Fan(unit.prepared, unit.started, items, unit.verdicts, known)
        if fan.over:
            self._close(fan)
        return self._items(fan, busy)

    async def _fix(self, unit: Unit, items: list[Any]) -> None:
        """Checkpoint a list, unless something in it was released: that is stored nowhere, and what such a list is made
        of is in the checkpoints that the release has written, so it is the same once more."""
        if Place(unit.step, None, "input") in self.tries.calling.pardons.used:
            return
        record = replace(unit.record(LIST, self.tries.run.attempt, self._now()), input=items)
        await self.tries.ports.checkpoint(record)
        self.journal.fix(record)

    async def _some_ended(self) -> None:
        """Wait until a call has ended, or one that waits may go on."""
        timeout = None
        if self.waiting and not self._closing:
            soonest = min(unit.goes_on() for unit in self.waiting.values())
            timeout = max(0.0, (soonest - self._now()).total_seconds())
        done, _ = await asyncio.wait(self._tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in sorted(done, key=lambda one: self._tasks[one].place):
            ending = task.result()
            self._ended(self._tasks.pop(task), ending)

    def _ended(self, unit: Unit, ending: Ending | None) -> None:
        """A unit has its record, or waits."""
        fan = None if unit.item is None else self._fans[unit.step]
        if ending is None:
            self.waiting[unit.key] = unit
            unit.look = self._now() + LOOK
            if fan is not None:
                fan.waits(unit.place[1])
                if fan.over:  # another item has failed meanwhile
                    self._close(fan)
            return
        self._begun.pop(unit.key, None)
        self._done.add(unit.key)
        self.journal.write(ending.record, failed=ending.error is not None)
        if fan is None:
            self._step_ended(unit.prepared, ending, ending.record.output)
            return
        fan.ended(unit.place[1], ending)
        self._closing |= ending.error is not None and not self.tolerant
        if fan.over:
            self._close(fan)

    def _close(self, fan: Fan) -> None:
        """A foreach has ended: its own record follows those of its items."""
        ending = fan.ending(self.tries.run.attempt, self._now())
        step = fan.prepared.step.id
        del self._fans[step]
        self.journal.write(ending.record, failed=ending.error is not None)
        if ending.error is None:
            self._step_ended(fan.prepared, ending, fan.outputs)
            return
        if self.tolerant:  # no attempt follows in which its waiting items could go on
            self._forget(step)
        self._step_ended(fan.prepared, ending, None)

    def _forget(self, step: str) -> None:
        for key in [key for key, unit in self.waiting.items() if unit.step == step]:
            unit = self.waiting.pop(key)
            del self._begun[key]
            self._done.add(key)
            self.journal.write(unit.record("canceled", self.tries.run.attempt, self._now()))

    def _step_ended(self, prepared: Prepared, ending: Ending, output: Any) -> None:
        self.journal.publish(prepared, ending.record.status, output)
        if ending.error is not None and not self.tolerant:
            self._closing = True
            self.failed = self.failed or ending
        else:
            self._front.ended(prepared.step.id)

    async def _cancel_rest(self) -> None:
        """Nothing goes on behind the attempt's back: what is being called is cancelled, and its end waited for."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)


def _fits(step: str, busy: set[str]) -> bool:
    """Whether a call of `step` is within the bound; if so it takes its place."""
    if step not in busy and len(busy) >= PARALLEL:
        return False
    busy.add(step)
    return True


def _holds(condition: Expression, context: Mapping[str, Any]) -> bool:
    try:
        return condition.holds(context)
    except ValidationFailed as error:
        raise InputInvalid(f"if: {error}", errors=error.errors) from error
