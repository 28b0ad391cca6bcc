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
    continues one that parked the run. `item` is the place in a foreach's list, from 0.
    """

    run_id: UUID
    step: str
    idempotency_key: str
    fence: int
    attempt: int
    timeout: timedelta
    resumed: bool = False
    agent_id: UUID | None = None
    item: int | None = None


Answer = Any
"""Any JSON value."""
Tool = Callable[[Arguments, Call], Awaitable[Answer]]


class Parked(Exception):
    """The run gives its worker back and goes on at this step after `delay`.

    `called`: the tool has begun its work, so the next call is a resumed one. False when the tool could not be asked
    yet (its rate is spent, say): the next call is like this one.
    """

    def __init__(self, delay: timedelta, *, called: bool = True) -> None:
        super().__init__(f"parked for {delay}")
        self.delay = delay
        self.called = called
