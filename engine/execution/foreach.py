"""One foreach under way: which item is next, what has ended, and what the step comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from engine.errors import BudgetExceeded, DueworkError, GateBlocked, InputInvalid
from engine.execution.units import Ending
from engine.plan import Prepared, StepRecord

ITEMS = 10_000
"""Items that one foreach runs over at most."""
TOLD = 3
"""Failed items that the step's error names."""


def as_items(value: Any) -> list[Any]:
    """What foreach rendered to, if it is a list. Raises InputInvalid that says what came."""
    if not isinstance(value, list):
        raise InputInvalid(f"foreach: a list is needed, and {_described(value)} came")
    if len(value) > ITEMS:
        raise InputInvalid(f"foreach: the list has {len(value)} items; at most {ITEMS} are run over")
    return value


class Fan:
    """The items of one step. `known` are those that an earlier lease has done."""

    def __init__(
        self,
        prepared: Prepared,
        started: datetime,
        items: Sequence[Any],
        verdicts: Mapping[str, Any],
        known: Mapping[int, StepRecord],
    ) -> None:
        self.prepared = prepared
        self.started = started
        self.items = items
        self.verdicts = verdicts
        self.records: dict[int, StepRecord] = dict(known)
        self.errors: dict[int, DueworkError] = {}
        self._under_way: set[int] = set()
        self._waiting: set[int] = set()
        self._left = (index for index in range(len(items)) if index not in known)
        self._next = next(self._left, None)

    def take(self) -> int | None:
        """The next item to call; None while `max_parallel` are under way, or when there is none."""
        index = self._next
        if index is None or self.errors or len(self._under_way) >= self.prepared.step.max_parallel:
            return None
        self._next = next(self._left, None)
        self._under_way.add(index)
        return index

    def waits(self, index: int, *, still: bool = True) -> None:
        """An item waits, and keeps its place; or waits no longer."""
        (self._waiting.add if still else self._waiting.discard)(index)

    def ended(self, index: int, ending: Ending) -> None:
        """An item has its record; with an error, no other begins."""
        self._under_way.discard(index)
        self.records[index] = ending.record
        if ending.error is not None:
            self.errors[index] = ending.error

    @property
    def over(self) -> bool:
        """Whether the step has ended: all items have, or one has failed it and no other is being called."""
        if self.errors:
            return self._under_way <= self._waiting
        return self._next is None and not self._under_way

    @property
    def outputs(self) -> list[Any]:
        """The items' outputs, in the order of the list."""
        return [self.records[index].output for index in range(len(self.items))]

    def ending(self, attempt: int, finished: datetime) -> Ending:
        """The step's own record, and the error that ends the run, if one does."""
        cause = self._cause()
        status, error = self._summary(cause)
        record = self.record(status, attempt, finished, error)
        return Ending(record, None if cause is None else self.errors[cause.item or 0])

    def record(
        self, status: str, attempt: int, finished: datetime, error: Mapping[str, Any] | None = None
    ) -> StepRecord:
        """The step's row: inputs and outputs are in those of its items."""
        tries = sum(record.tries for record in self.records.values())
        return StepRecord(
            self.prepared.position,
            self.prepared.step.id,
            None,
            attempt,
            self.prepared.step.uses,
            status,
            tries,
            self.started,
            finished,
            error=error,
            verdict=self.verdicts or None,
        )

    def _cause(self) -> StepRecord | None:
        """The item whose error is the step's: what nobody may excuse first, then what will not pass by itself."""
        ranked = sorted(self.errors, key=lambda index: (_rank(self.errors[index]), index))
        return self.records[ranked[0]] if ranked else None

    def _summary(self, cause: StepRecord | None) -> tuple[str, Mapping[str, Any] | None]:
        failed = [one for _, one in sorted(self.records.items()) if one.error is not None]
        if not failed:
            return "succeeded", None
        first = [
            {"item": one.item, "code": (one.error or {})["code"], "message": (one.error or {})["message"]}
            for one in failed[:TOLD]
        ]
        told = "; ".join(f"item {one['item']}: {one['message']}" for one in first)
        more = "; …" if len(failed) > TOLD else ""
        text = f"{len(failed)} of {len(self.items)} items failed: {told}{more}"
        worst = cause or failed[0]
        details = {"failed": len(failed), "items": len(self.items), "first": first}
        return worst.status, {"code": (worst.error or {})["code"], "message": text, "details": details}


def _rank(error: DueworkError) -> int:
    return 0 if isinstance(error, GateBlocked | BudgetExceeded) else 1 + error.retryable


def _described(value: Any) -> str:
    kinds = {dict: "an object", str: "a text", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else kinds.get(type(value), type(value).__name__)
