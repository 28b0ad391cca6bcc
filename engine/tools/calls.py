"""What a tool is given besides its input, and how it says that the run shall wait.

A tool is an async function (arguments, call) → JSON value. It raises ToolError classes for failures and
Parked to hand the worker back until later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """The circumstances of one tool call.

    `idempotency_key` is the same for every attempt of this step; `fence` grows with every lease of any run,
    so a receiver that remembers the largest one can refuse a stale worker. `resumed` is true when this call
    continues one that parked the run.
    """

    run_id: UUID
    step: str
    idempotency_key: str
    fence: int
    attempt: int
    timeout: timedelta
    resumed: bool = False
    agent_id: UUID | None = None


Tool = Callable[[Arguments, Call], Awaitable[Any]]


class Parked(Exception):
    """The run gives its worker back and goes on at this step after `delay`."""

    def __init__(self, delay: timedelta) -> None:
        super().__init__(f"parked for {delay}")
        self.delay = delay
