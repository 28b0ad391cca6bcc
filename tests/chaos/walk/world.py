"""What the parts of one walk share: its database, its dice, what has happened so far and what was found wrong."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from engine.db import Connection

PROMISES: Mapping[str, str] = {
    "b": "a run is executed at least once, settled exactly once, and ends as it would undisturbed",
    "c": "a worker that lost its lease changes nothing",
    "d": "a checkpointed step is not called again",
    "f": "an acknowledged write survives",
}
"""What a walk can see broken, by the letters of the design. Its runs have no schedule (a) and pass the gate (e)."""
PATIENCE = 900.0
"""Seconds until a walk counts as stuck; one takes a few."""
Place = tuple[UUID, str, int | None]
"""Run, step and item."""


class Killed(BaseException):
    """The worker is dead: nothing of it may go on, and no `except` of the product may keep it alive."""


@dataclass(frozen=True, slots=True)
class Breach:
    """A promise (its letter) that was not kept, and the run that shows it, if it is one run's."""

    promise: str
    text: str
    run: UUID | None = None


@dataclass(slots=True)
class World:
    """One walk. `looks` serves the tools, under `lock`; `answers` is what a tool has answered under which fences."""

    url: str
    dice: random.Random
    looks: Connection
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    calls: Counter[Place] = field(default_factory=Counter)
    answers: dict[Place, set[int]] = field(default_factory=dict)
    breaches: list[Breach] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    kills: int = 0

    @property
    def over(self) -> bool:
        """Whether the walk has lasted longer than any machine needs."""
        return time.monotonic() - self.began > PATIENCE

    def note(self, text: str) -> None:
        """Remember what has happened."""
        self.history.append(f"{time.monotonic() - self.began:8.3f} {text}")

    def chance(self, probability: float) -> bool:
        """One throw of the dice."""
        return self.dice.random() < probability


async def lapse(seconds: float) -> None:
    """Let a drawn time pass. It stands for a tool at work or a pause of the world; no condition is waited for."""
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    timer = loop.call_later(seconds, passed.set_result, None)
    try:
        await passed
    finally:
        timer.cancel()
