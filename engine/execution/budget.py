"""The budget of a run: what tools say they used, counted over tries, items and attempts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from engine.errors import BudgetExceeded
from engine.plan import StepRecord

MEASURES = {"tokens": "max_tokens", "cost_usd": "max_cost_usd"}
"""What a tool may report in its output's `usage`, and the limit of it."""


class Budget:
    """Counts while a lease lasts. `carried` is what earlier leases used and no record of `finished` holds."""

    def __init__(
        self,
        limits: Mapping[str, Any],
        carried: Mapping[str, Any],
        finished: Iterable[StepRecord],
        since: datetime,
    ) -> None:
        self.limits = limits
        self._since = since
        self._seconds = float(carried.get("seconds", 0.0))
        self._recorded: dict[tuple[str, int | None], Mapping[str, Any]] = {}
        self._spent: dict[str, float] = {name: carried.get(name, 0) for name in MEASURES}
        for record in finished:
            self.recorded(record)
            for name, amount in (record.usage or {}).items():
                self._spent[name] += amount

    def count(self, output: Any, before: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Add what an output reports; what the unit has used by then, `before` included."""
        found = output.get("usage") if self.limits and isinstance(output, dict) else None
        if not isinstance(found, dict):
            return before
        used = {name: found[name] for name in MEASURES if _is_amount(found.get(name))}
        for name, amount in used.items():
            self._spent[name] += amount
        earlier = before or {}
        return {name: earlier.get(name, 0) + used.get(name, 0) for name in {**earlier, **used}}

    def recorded(self, record: StepRecord) -> None:
        """A checkpoint holds this record's usage from now on, so that `carried` need not."""
        if record.usage:
            self._recorded[record.step, record.item] = record.usage

    def check(self, now: datetime) -> None:
        """Raises BudgetExceeded when a limit is reached: nothing may begin any more."""
        for name, limit in MEASURES.items():
            most = self.limits.get(limit)
            if most is not None and self._spent[name] >= most:
                raise self._exceeded(limit, self._spent[name], f"{self._spent[name]:g} of {most:g} {name}")
        left = self.left(now)
        if left is not None and left <= timedelta(0):
            raise self.out_of_time()

    def left(self, now: datetime) -> timedelta | None:
        """How long the run may still go on; None without such a limit."""
        most = self.limits.get("max_time_seconds")
        return None if most is None else timedelta(seconds=most - self._worked(now))

    def out_of_time(self) -> BudgetExceeded:
        """The error of a run that has been worked on for too long."""
        most = self.limits["max_time_seconds"]
        return self._exceeded("max_time_seconds", most, f"its {most:g} seconds")

    def carried(self, now: datetime) -> dict[str, Any]:
        """What the next lease has to be told: all that no checkpoint says; {} when there is no budget."""
        if not self.limits:
            return {}
        left = dict(self._spent)
        for usage in self._recorded.values():
            for name, amount in usage.items():
                left[name] -= amount
        return {name: amount for name, amount in left.items() if amount} | {"seconds": self._worked(now)}

    def _worked(self, now: datetime) -> float:
        return self._seconds + (now - self._since).total_seconds()

    def _exceeded(self, limit: str, spent: float, said: str) -> BudgetExceeded:
        text = f"the run has spent {said}; budget.{limit} ends it"
        return BudgetExceeded(text, details={"limit": limit, "max": self.limits[limit], "spent": spent})


def tightest(*budgets: Mapping[str, Any]) -> dict[str, Any]:
    """Of each limit the smallest that any of the budgets sets."""
    names = {name for budget in budgets for name in budget}
    return {name: min(budget[name] for budget in budgets if name in budget) for name in names}


def _is_amount(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0
