"""What must be true when a walk is over, and of two walks of the same pipelines."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from engine.db import Connection, Row
from tests.chaos.walk.pipelines import Drawn
from tests.chaos.walk.world import Breach, Place, World
from tests.factories import dump, rows

ATTEMPTS = """
SELECT run_id, attempt, status, final, output, error, worker FROM duework.task_run ORDER BY run_id, finished_at, attempt
"""
STEPS = """
SELECT run_id, attempt, position, step, item, status, tries, error FROM duework.steps
ORDER BY run_id, attempt, position, item NULLS FIRST
"""
PASSING = {"run_id", "at", "event", "id", "by", "reason", "slept_seconds", "message", "deduplicated"}
"""Members of outputs that differ between two executions of the same pipeline."""
LEFT = ("due_work", "wait", "concurrency_slot", "checkpoint")


@dataclass(frozen=True, slots=True)
class Ended:
    """A walk that is over: what it drew, what every run and step came to, and what was found wrong with it."""

    drawn: Sequence[Drawn]
    runs: Sequence[UUID]
    canceled: AbstractSet[UUID]
    kills: int
    attempts: Sequence[Row]
    steps: Sequence[Row]
    history: Sequence[str]
    breaches: Sequence[Breach]

    def end(self, place: int) -> Row:
        """The row that settled a run; empty if there is none."""
        rows_ = (row for row in self.attempts if row["run_id"] == self.runs[place] and row["final"])
        return next(rows_, {})

    def statuses(self) -> list[str]:
        """How the runs ended, in the order they were drawn."""
        return [str(self.end(place).get("status")) for place in range(len(self.runs))]

    def states(self, place: int) -> list[tuple[str, int, str]]:
        """What became of each step and item of a run: its last row."""
        last = {_place(row): row["status"] for row in self.steps if row["run_id"] == self.runs[place]}
        return sorted((step, -1 if item is None else item, state) for (_, step, item), state in last.items())


async def ended(
    world: World, conn: Connection, drawn: Sequence[Drawn], runs: Sequence[UUID], canceled: AbstractSet[UUID]
) -> Ended:
    """Read what the walk has left, and hold it against the promises."""
    attempts, steps = await rows(conn, ATTEMPTS), await rows(conn, STEPS)
    left = await dump(conn, *LEFT)
    found = [*world.breaches, *_left_over(left), *_settled(attempts, runs)]
    found += [*_step_rows(attempts, steps), *_answered(world, attempts, steps, canceled)]
    return Ended(drawn, runs, canceled, world.kills, attempts, steps, world.history, found)


def _left_over(left: Mapping[str, Sequence[Row]]) -> Iterator[Breach]:
    """A settled run leaves no row behind; a checkpoint that is written after it was a stale worker's."""
    for table, found in left.items():
        for row in found:
            run = next((row[key] for key in ("run_id", "id") if isinstance(row.get(key), UUID)), None)
            yield Breach("c" if table == "checkpoint" else "b", f"left in {table}: {row}", run)


def _settled(attempts: Sequence[Row], runs: Sequence[UUID]) -> Iterator[Breach]:
    """Each run is settled once, those that others started too."""
    times = dict.fromkeys(runs, 0)
    for row in attempts:
        times[row["run_id"]] = times.get(row["run_id"], 0) + row["final"]
    for run, count in times.items():
        if count != 1:
            yield Breach("b", f"settled {count} times", run)


def _step_rows(attempts: Sequence[Row], steps: Sequence[Row]) -> Iterator[Breach]:
    """One row per step and attempt, one success per step, and no item without its step."""
    seen: dict[Place, list[Row]] = defaultdict(list)
    for row in steps:
        seen[_place(row)].append(row)
    for (run, step, item), found in seen.items():
        told = [(row["attempt"], row["status"]) for row in found]
        if len({attempt for attempt, _ in told}) != len(told):
            yield Breach("c", f"two rows of one attempt for {step} item {item}: {told}", run)
        if sum(status == "succeeded" for _, status in told) > 1:
            yield Breach("d", f"{step} item {item} succeeded twice: {told}", run)
        if item is not None and (run, step, None) not in seen:
            yield Breach("f", f"{step} has a row for item {item} and none for itself: {told}", run)


def _answered(
    world: World, attempts: Sequence[Row], steps: Sequence[Row], canceled: AbstractSet[UUID]
) -> Iterator[Breach]:
    """What a tool has answered is in the history, unless its worker died with it and nobody asked again."""
    known, over = {_place(row) for row in steps}, {row["run_id"] for row in attempts if row["final"]}
    for place, fences in world.answers.items():
        excused = place[0] in canceled and world.kills > 0
        if place not in known and place[0] in over and not excused:
            told = f"{place[1]} item {place[2]} answered under fences {sorted(fences)} and has no row"
            yield Breach("f", told, place[0])


def compared(calm: Ended, wild: Ended) -> Iterator[Breach]:
    """Trouble changes neither how a run ends nor what it says; only who cancels it may."""
    for place, run in enumerate(wild.runs):
        peace, storm = calm.end(place), wild.end(place)
        if run in wild.canceled and storm.get("status") == "canceled":
            continue
        if _telling(peace) != _telling(storm):
            yield Breach("b", f"ends as {_said(storm)}; undisturbed as {_said(peace)}", run)
        elif peace.get("status") == "succeeded" and calm.states(place) != wild.states(place):
            yield Breach("b", f"steps: {wild.states(place)}; undisturbed: {calm.states(place)}", run)


def _telling(end: Row) -> tuple[Any, Any]:
    return end.get("status"), _scrubbed(end.get("output"))


def _said(end: Row) -> str:
    shown = {key: end.get(key) for key in ("status", "output", "error")}
    return json.dumps(shown, default=str)


def _scrubbed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _scrubbed(member) for key, member in value.items() if key not in PASSING}
    return [_scrubbed(member) for member in value] if isinstance(value, list) else value


def _place(row: Row) -> Place:
    return row["run_id"], row["step"], row["item"]
