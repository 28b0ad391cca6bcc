"""A stage for the executor: tools of the test's own, and everything else an attempt needs, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from engine.executor import Attempt
from engine.gate.asking import Ask
from engine.pipeline import parse_definition
from engine.plan import Outcome, Ports, Run, StepRecord, prepare
from engine.settings import Settings
from engine.tools.calls import Call
from engine.tools.entry import ToolEntry
from engine.tools.registry import Catalog, load_catalog, parse_entry
from tests.factories import document

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
RUN = Run(UUID(int=1), 1, 42, "run_now", NOW, {"city": "Chisinau"})
SECRET = "hush-hush-0f9a"
MAIL = "zoe.quick@fastmail.com"
ENTRIES: list[dict[str, Any]] = [
    {"address": "t.once", "idempotent": False},
    {"address": "t.again", "idempotent": True},
    {"address": "t.patient", "retry": {"max_attempts": 3, "delay": "1ms"}},
    {"address": "t.strict", "input_schema": {"type": "object", "required": ["n"]}},
    {"address": "t.own", "secrets": ["OTHER"]},
    {
        "address": "t.hush",
        "input_schema": {"type": "object", "properties": {"n": {"pattern": "^hush-", "maxLength": 20}}},
    },
    {"address": "t.typed", "output_schema": {"type": "object", "properties": {"n": {"type": "integer"}}}},
]


@dataclass(slots=True)
class Stage:
    """Plays the surroundings of an attempt: answers calls, and writes down what happened in which order.

    `answers` by step: a value, an error to raise, a function to await, or a function of the call to await. `passed` is
    what the database's clock has gone on since NOW. `ask` is a remote gate.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, Any, Call]] = field(default_factory=list)
    kept: list[StepRecord] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    follow: bool = True
    remembered: Mapping[str, Any] = field(default_factory=dict)
    passed: timedelta = timedelta(0)
    attempt: Attempt | None = None
    ask: Ask | None = None

    async def call(self, entry: ToolEntry, arguments: dict[str, Any], call: Call) -> Any:
        self.order.append(f"call {call.step}")
        self.calls.append((call.step, arguments, call))
        answer = self.answers.get(call.step, arguments)
        if callable(answer):
            answer = await (answer(call) if answer.__code__.co_argcount else answer())
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def checkpoint(self, record: StepRecord) -> None:
        self.order.append(f"checkpoint {record.step}")
        self.kept.append(record)

    async def decide(self, record: StepRecord, met: bool) -> bool:
        self.order.append(f"decide {met}")
        self.kept.append(record)
        return self.follow

    async def remember(self, state: Mapping[str, Any]) -> None:
        self.order.append("remember")
        self.remembered = state

    async def run(self, *steps: dict[str, Any], run: Run = RUN, **members: Any) -> Outcome:
        """Execute a pipeline of these steps."""
        plan = prepare(parse_definition(document(steps=steps, **members)), catalog())
        ports = Ports(
            self.call,
            self.checkpoint,
            self.now,
            {"TOKEN": SECRET}.get,
            10_000,
            self.decide,
            self.remember,
            self.ask,
        )
        self.attempt = Attempt(plan, run, ports)
        return await self.attempt.execute()

    def now(self) -> datetime:
        return NOW + self.passed


@cache
def catalog() -> Catalog:
    """duework's own tools, and the test's."""
    shape = {"transport": "builtin", "endpoint": "t", "input_schema": {}, "output_schema": {}}
    made = [parse_entry(shape | members, "test") for members in ENTRIES]
    return Catalog({**load_catalog(Settings()).entries, **{entry.address: entry for entry in made}})


def code(outcome: Outcome) -> Any:
    return (outcome.error or {}).get("code")
