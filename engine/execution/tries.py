"""The tries of one unit: called until it succeeds, fails for good, or has to wait for longer than a worker should."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from engine.errors import (
    BudgetExceeded,
    DueworkError,
    GateBlocked,
    GateUnavailable,
    LeaseLost,
    OutputInvalid,
    StoreUnavailable,
    ToolTimeout,
    ValidationFailed,
)
from engine.execution.budget import Budget
from engine.execution.calling import Calling
from engine.execution.units import Ending, Unit
from engine.plan import StepRecord
from engine.retry import delay_after, may_retry
from engine.tools.calls import Parked

INLINE = timedelta(seconds=1)
"""A wait up to this long keeps the worker; a longer one may park the run, so that no lease is slept through."""
FINAL = (GateBlocked, BudgetExceeded)
"""Errors that `on_error` does not excuse and no try repairs."""
ABOVE = (LeaseLost, StoreUnavailable)
"""Not the step's failures: the run is somebody else's, or is given back until the outage ends."""


class Tries:
    """Tries the units of one attempt. `free`: the budget does not stop them; not `keep`: nothing is checkpointed."""

    def __init__(self, calling: Calling, budget: Budget, *, free: bool = False, keep: bool = True) -> None:
        self.calling = calling
        self.budget = budget
        self.free = free
        self.keep = keep
        self.run = calling.run
        self.ports = calling.ports

    async def pursue(self, unit: Unit, closing: Callable[[], bool]) -> Ending | None:
        """The unit's end, checkpointed if it must not happen twice; None when it waits beyond INLINE.

        Once it is `closing`, a failed try is the last. Raises LeaseLost and StoreUnavailable.
        """
        while True:
            if unit.until is not None:
                left = unit.until - self.ports.clock()
                if left > INLINE:
                    return None
                if left > timedelta(0):
                    await asyncio.sleep(left.total_seconds())
                unit.until = None
            ending = await self._once(unit, closing)
            if ending is not None:
                return ending

    async def _once(self, unit: Unit, closing: Callable[[], bool]) -> Ending | None:
        """One try; None when another is to come."""
        unit.input, unit.verdicts = None, {}
        unit.tries += 1
        try:
            self._afford(unit)
            output = await self.calling.once(unit, self._count)
        except ABOVE:
            raise
        except Parked as parked:
            unit.tries -= 1
            unit.resumed = parked.called or unit.resumed
            unit.early = parked.early
            unit.until = self.ports.clock() + parked.delay
            return None
        except DueworkError as error:
            policy = unit.prepared.retry
            again = not isinstance(error, FINAL) and may_retry(
                policy, error.code, error.retryable, unit.tries
            )
            if closing() or not again:
                return await self.recover(unit, error)
            delay = delay_after(policy, unit.tries, f"{self.run.run_id}:{unit.key}", error.retry_after)
            unit.resumed = unit.early = False
            unit.until = self.ports.clock() + delay
            return None
        record = unit.record("succeeded", self.run.attempt, self.ports.clock(), output=output)
        await self._keep(unit, record)
        return Ending(record)

    async def recover(self, unit: Unit, error: DueworkError) -> Ending:
        """Apply on_error to the unit's last error."""
        mode = unit.prepared.step.on_error
        failed = self._failed(unit, error)
        if mode == "fail" or isinstance(error, FINAL):
            return Ending(failed, error)
        if not isinstance(mode, str):
            try:
                value = await self.calling.stand_in(unit, mode["value"], failed.error or {})
            except (GateBlocked, GateUnavailable) as refused:
                return Ending(self._failed(unit, refused), refused)
            except (ValidationFailed, OutputInvalid):
                return Ending(failed, error)
            failed = unit.record(
                failed.status, self.run.attempt, failed.finished_at, output=value, error=failed.error
            )
        await self._keep(unit, failed)
        return Ending(failed)

    async def _keep(self, unit: Unit, record: StepRecord) -> None:
        """What may not happen twice is written down before anything else begins, and so is what was paid for."""
        if self.keep and (not unit.prepared.entry.idempotent or record.usage):
            await self.ports.checkpoint(record)
            self.budget.recorded(record)

    def _afford(self, unit: Unit) -> None:
        if self.budget.limits and not self.free:
            try:
                self.budget.check(self.ports.clock())
            except BudgetExceeded:
                unit.tries -= 1
                raise

    def _count(self, unit: Unit, output: Any) -> None:
        unit.usage = self.budget.count(output, unit.usage)

    def _failed(self, unit: Unit, error: DueworkError) -> StepRecord:
        status = "failed"
        if isinstance(error, GateBlocked):
            status = "blocked"
        elif isinstance(error, ToolTimeout):
            status = "timed_out"
        told = self.calling.described(error)
        return unit.record(status, self.run.attempt, self.ports.clock(), error=told)
