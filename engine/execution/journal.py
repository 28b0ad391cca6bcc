"""What an attempt has to show: its records, and the outputs and statuses that expressions read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from engine.plan import Prepared, StepRecord

LIST = "running"
"""The status of a checkpoint that holds a step's list, before its items are done."""
UNDONE = ("blocked", "canceled")
"""The statuses of records that stand for no work done."""
Key = tuple[str, int | None]


class Journal:
    """Records by step and item. `finished` is what earlier leases have checkpointed; `failed` those that ended the
    run, or would have."""

    def __init__(self, finished: Iterable[StepRecord]) -> None:
        self.steps: dict[str, Any] = {}
        self.status: dict[str, str] = {}
        self.failed: set[Key] = set()
        self._records: dict[Key, StepRecord] = {}
        self._known: dict[str, StepRecord] = {}
        self._lists: dict[str, StepRecord] = {}
        self._items: dict[str, dict[int, StepRecord]] = {}
        for one in finished:
            if one.item is not None:
                self._items.setdefault(one.step, {})[one.item] = one
                self._records[one.step, one.item] = one
            elif one.status == LIST:
                self._lists[one.step] = one
            else:
                self._known[one.step] = one
                self._records[one.step, None] = one

    @property
    def records(self) -> tuple[StepRecord, ...]:
        """All of them: by position, a step before its items."""
        return tuple(sorted(self._records.values(), key=_place))

    def has(self, step: str, item: int | None) -> bool:
        """Whether a step or item has its record."""
        return (step, item) in self._records

    def record(self, step: str) -> StepRecord:
        """The record of a step that has ended."""
        return self._records[step, None]

    def known(self, step: str) -> StepRecord | None:
        """The record of a step that an earlier lease has ended."""
        return self._known.get(step)

    def fixed(self, step: str) -> StepRecord | None:
        """The checkpoint of a step's list that an earlier lease has made."""
        return self._lists.get(step)

    def items(self, step: str) -> dict[int, StepRecord]:
        """The items of a step that earlier leases have done."""
        return self._items.get(step, {})

    def write(self, record: StepRecord, *, failed: bool = False) -> None:
        """Keep a record."""
        self._records[record.step, record.item] = record
        if failed:
            self.failed.add((record.step, record.item))

    def fix(self, record: StepRecord) -> None:
        """Keep the list of a step, as its checkpoint does."""
        self._lists[record.step] = record

    def resumable(self, steps: Collection[str]) -> tuple[StepRecord, ...]:
        """What a later lease may take as done of `steps`: what ended as it should, and the lists of what has not."""
        done = [
            one
            for key, one in self._records.items()
            if one.step in steps and key not in self.failed and one.status not in UNDONE
        ]
        ended = {one.step for one in done if one.item is None}
        lists = (one for one in self._lists.values() if one.step in steps and one.step not in ended)
        return (*lists, *done)

    def recall(self, prepared: Prepared) -> bool:
        """Publish what an earlier lease has kept of a step; whether it has ended there."""
        step = prepared.step.id
        known = self._known.get(step)
        if known is None:
            return False
        items = self._items.get(step)
        output = [items[index].output for index in sorted(items)] if items else known.output
        self.publish(prepared, known.status, output)
        return True

    def publish(self, prepared: Prepared, status: str, output: Any) -> None:
        """Let the expressions of later steps see how a step ended, and what came of it."""
        step = prepared.step
        self.status[step.id] = status
        self.steps[step.id] = output
        if step.save_as:
            self.steps[step.save_as] = output


def unended_lists(
    finished: Collection[StepRecord], status: str, now: datetime, error: Mapping[str, Any]
) -> Iterator[StepRecord]:
    """A row for each foreach of `finished` that has begun and not ended: it ends by `error`."""
    for one in finished:
        if one.status == LIST:
            tries = sum(item.tries for item in finished if item.step == one.step)
            yield replace(one, status=status, finished_at=now, input=None, error=error, tries=tries)


def _place(record: StepRecord) -> tuple[int, int]:
    return record.position, -1 if record.item is None else record.item
