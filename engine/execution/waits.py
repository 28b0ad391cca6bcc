"""The state that a run leaves for its next lease: who waits until when, what is spent, why it failed.

    {"steps": {"<step>" or "<step>:<item>": {"tries", "resumed", "until", "early",     a parked run's
                                             "position", "tool", "started_at"}},       for its row if canceled
     "later": the same, of a run that failed meanwhile and is tried again,
     "usage": {"tokens", "cost_usd", "seconds"},                                       what no checkpoint holds
     "failure": {"status", "error", "blocked": {"findings", "failed"}},                 only on_failure is left
     "released": {"count", "digests"},                                                 what the gate lets pass
     "attempt": n, "started_at": when that attempt began}

A run that waits at one step was once kept as {"step", "tries", "resumed"}; that is still read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engine.plan import Run, StepRecord


@dataclass(frozen=True, slots=True)
class Wait:
    """Where a step or item goes on: after `tries` calls, at `until` (None: at once), or earlier if it is `early`."""

    tries: int
    resumed: bool = False
    until: datetime | None = None
    early: bool = False
    position: int | None = None
    tool: str | None = None
    started: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        until, started = (at and at.isoformat() for at in (self.until, self.started))
        told = {"tries": self.tries, "resumed": self.resumed, "until": until, "early": self.early}
        return told | {"position": self.position, "tool": self.tool, "started_at": started}

    @classmethod
    def of(cls, members: Mapping[str, Any]) -> Wait:
        """The inverse of `as_dict`."""
        until, started = members.get("until"), members.get("started_at")
        return cls(
            int(members.get("tries") or 0),
            resumed=bool(members.get("resumed")),
            until=datetime.fromisoformat(until) if until else None,
            early=bool(members.get("early")),
            position=members.get("position"),
            tool=members.get("tool"),
            started=datetime.fromisoformat(started) if started else None,
        )

    @property
    def nothing(self) -> bool:
        """Whether a step that has just begun would go on alike."""
        return not self.tries and not self.resumed and self.until is None


def read_waits(state: Mapping[str, Any]) -> dict[str, Wait]:
    """Who waited when the state was written, by the unit's key."""
    if "step" in state:
        members = {name: state.get(name) for name in ("tries", "resumed")}
        return {str(state["step"]): Wait.of(members)}
    found: Mapping[str, Any] = state.get("steps") or state.get("later") or {}
    return {key: Wait.of(members) for key, members in found.items()}


def unended_waits(
    state: Mapping[str, Any], attempt: int, status: str, now: datetime, error: Mapping[str, Any]
) -> Iterator[StepRecord]:
    """A row for each step and item that waited when the state was written; older states do not say which tool did."""
    for key, wait in read_waits(state).items():
        if wait.tool is not None and wait.position is not None:
            step, _, item = key.partition(":")
            place = (wait.position, step, int(item) if item else None, attempt, wait.tool, status)
            yield StepRecord(*place, wait.tries, wait.started or now, now, error=error)


def started_at(run: Run, now: datetime) -> datetime:
    """When the attempt began: `now`, or what its own earlier lease left in the state."""
    told = run.state.get("started_at")
    if told is None or run.state.get("attempt", run.attempt) != run.attempt:
        return now
    return datetime.fromisoformat(told)
