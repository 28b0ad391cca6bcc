"""What a tool is given besides its input, and how it says that the run shall wait.

A tool is an async function (arguments, call) → JSON value. It raises ToolError classes for failures and
Parked to hand the worker back until later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

from engine.secrets import Secrets

Arguments = dict[str, Any]


def no_secrets() -> Secrets:
    """Secrets of which none is set."""
    return Secrets(lambda _name: None)


@dataclass(frozen=True, slots=True)
class Call:
    """The circumstances of one tool call.

    `idempotency_key` is the same for every attempt of this step; `fence` grows with every lease of any run,
    so a receiver that remembers the largest one can refuse a stale worker. `resumed` is true when this call
    continues one that parked the run. `item` is the place in a foreach's list, from 0. `secrets` are the run's: those
    that the templates of a catalog entry ask for are revealed through it, and so masked in all that the call answers.
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
    secrets: Secrets = field(default_factory=no_secrets, compare=False, repr=False)

    def conceal(self, value: Any, *, cut: bool = False) -> Any:
        """`value` with the secrets in it replaced by their names: for what a tool logs or says in an error.

        `cut`: it is a text that may end within a secret.
        """
        return self.secrets.conceal(value, cut=cut)

    @property
    def traceparent(self) -> str:
        """The call as W3C Trace Context (level 1, section 3.2) writes it: the run is the trace, this try a span."""
        span = blake2b(f"{self.idempotency_key}:{self.fence}:{self.attempt}".encode(), digest_size=8)
        return f"00-{self.run_id.hex}-{span.hexdigest()}-01"


Answer = Any
"""Any JSON value."""
Tool = Callable[[Arguments, Call], Awaitable[Answer]]


class Parked(Exception):
    """The run gives its worker back and goes on at this step after `delay`.

    `called`: the tool has begun its work, so the next call is a resumed one. False when the tool could not be asked
    yet (its rate is spent, say): the next call is like this one. `early`: something may end the wait before (an event,
    an approval), so whenever the run is woken the tool is called to look, and parks again if there is nothing; others
    of the same run keep waiting for their own instants.
    """

    def __init__(self, delay: timedelta, *, called: bool = True, early: bool = False) -> None:
        super().__init__(f"parked for {delay}")
        self.delay = delay
        self.called = called
        self.early = early
