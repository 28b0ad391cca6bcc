"""Units: the calls that a run owes, one for a step, or one for each item of its foreach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from engine.errors import DueworkError
from engine.execution.waits import Wait
from engine.plan import Prepared, StepRecord


@dataclass(slots=True)
class Unit:
    """One call from its first try to its record. `context` is what its expressions see; `key` names it within its run.

    `tries` counts the calls so far. `until` is the instant before which it is not called, None when it may be; `early`
    tells a wait that something may end before, so it is looked at by `look`. `input`, `verdicts` and `usage` are what
    may be kept of the call.
    """

    prepared: Prepared
    started: datetime
    context: Mapping[str, Any]
    item: int | None = None
    tries: int = 0
    resumed: bool = False
    until: datetime | None = None
    early: bool = False
    input: Any = None
    verdicts: dict[str, Any] = field(default_factory=dict)
    usage: Mapping[str, Any] | None = None
    look: datetime | None = None
    step: str = field(init=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.step = self.prepared.step.id
        self.key = self.step if self.item is None else f"{self.step}:{self.item}"

    @property
    def place(self) -> tuple[int, int]:
        """Its order among the units of its run: the step's position, and the item."""
        return self.prepared.position, -1 if self.item is None else self.item

    def goes_on(self) -> datetime:
        """When a unit that waits may be called again while the run stays in its worker."""
        instants = [self.until, self.look if self.early else None]
        return min(one for one in instants if one is not None)

    def restore(self, wait: Wait | None) -> None:
        """Go on from what an earlier lease left. A wait that may end early is looked at when the run is woken."""
        if wait is not None:
            self.tries, self.resumed, self.early = wait.tries, wait.resumed, wait.early
            self.until = None if wait.early else wait.until
            self.started = wait.started or self.started

    def waiting(self) -> Wait:
        """What the next lease goes on from."""
        return self._wait(self.tries, self.until)

    def interrupted(self) -> Wait:
        """The same for one that is being called: that try does not count."""
        return self._wait(max(self.tries - 1, 0), None)

    def _wait(self, tries: int, until: datetime | None) -> Wait:
        place, tool = self.prepared.position, self.prepared.step.uses
        return Wait(tries, self.resumed, until, self.early, place, tool, self.started)

    def record(
        self,
        status: str,
        attempt: int,
        finished: datetime,
        *,
        output: Any = None,
        error: Mapping[str, Any] | None = None,
    ) -> StepRecord:
        """How it ended, as it is kept."""
        prepared = self.prepared
        return StepRecord(
            prepared.position,
            prepared.step.id,
            self.item,
            attempt,
            prepared.step.uses,
            status,
            self.tries,
            self.started,
            finished,
            self.input,
            output,
            error,
            self.verdicts or None,
            self.usage,
        )


@dataclass(frozen=True, slots=True)
class Ending:
    """A unit's record; with an `error`, no step, item or try begins any more."""

    record: StepRecord
    error: DueworkError | None = None
