"""What one step costs in process, without the database: the whole, and each part of it.

    python -m tests.load.steps [--steps 20000] [--rounds 5] [--lines 0]

Pipelines of 1, 10 and 100 `core.echo` steps are carried out by the executor with the toolbox and the gate of a worker
and a checkpoint that keeps nothing, first with a payload that differs in every run, then with one and the same, which
the gate may remember; then without the gate. Below, the parts of one step, each by itself, and a yardstick for the
machine of the moment: the payload to JSON and back. `--lines` are objects of two members that the payload holds
beside a text of some forty characters. µs of CPU, the median of the rounds, and the least.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count, repeat
from typing import Any
from uuid import uuid4

from engine import reflex
from engine.executor import Attempt
from engine.pipeline import parse_definition
from engine.plan import Order, Plan, Ports, Run, StepRecord, prepare
from engine.reflex import Policy
from engine.settings import Settings
from engine.storable import check_storable
from engine.tools.registry import load_catalog
from engine.tools.toolbox import open_toolbox

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
WITH = {
    "order": "${params.order}",
    "note": "Order ${params.order} of ${params.city}, ${now}",
    "lines": "${params.lines}",
}


def plan_of(steps: int) -> Plan:
    """A pipeline of echoes, each rendered anew."""
    document = {
        "apiVersion": "duework/v1", "kind": "Pipeline", "name": "bench", "title": "bench", "schedule": {"manual": True},
        "steps": [{"id": f"s{n}", "uses": "core.echo", "with": WITH} for n in range(steps)],
    }  # fmt: skip
    return prepare(parse_definition(document), load_catalog(Settings()))


def ungated(plan: Plan) -> Plan:
    """The same, with a gate that stands nowhere."""
    nowhere = Policy(on=frozenset())
    steps = {one.step.id: replace(one, policy=nowhere) for one in plan.steps.steps}
    followers = {
        name: tuple(steps[one.step.id] for one in found) for name, found in plan.steps.followers.items()
    }
    return replace(plan, steps=Order(tuple(steps.values()), plan.steps.needs, followers))


def params_of(number: int, lines: int) -> dict[str, Any]:
    """What no other number has."""
    listed = [{"item": f"part {number}-{n}", "amount": number + n} for n in range(lines)]
    return {"order": number, "city": "Chisinau", "lines": listed}


async def carry_out(plan: Plan, ports: Ports, payloads: Sequence[dict[str, Any]]) -> float:
    """µs per step of one run for each payload."""
    runs = [Run(uuid4(), 1, 1, "run_now", NOW, params) for params in payloads]
    gc.collect()
    begun = time.process_time()
    for run in runs:
        outcome = await Attempt(plan, run, ports).execute()
        assert outcome.status == "succeeded", outcome
    return (time.process_time() - begun) / len(runs) / len(plan.steps.steps) * 1e6


def parts(plan: Plan, lines: int) -> dict[str, Callable[[int], Any]]:
    """The parts of one step, as functions of a number that makes the payload; the arguments are made beforehand."""
    prepared = plan.steps.steps[0]
    entry, template, policy = prepared.entry, prepared.step.arguments, prepared.policy
    contexts = [{"params": params_of(n, lines), "now": "2026-03-02T12:00:00Z"} for n in range(COUNT)]
    arguments = [template.render(context) for context in contexts]
    record = StepRecord(0, "s0", None, 1, "core.echo", "succeeded", 1, NOW, NOW, arguments[0], arguments[0])
    return {
        "render": lambda n: template.render(contexts[n]),
        "schema in": lambda n: entry.input.check(entry.input.with_defaults(arguments[n])),
        "gate in": lambda n: reflex.judge(arguments[n], policy),
        "storable": lambda n: check_storable(arguments[n], 1_048_576),
        "schema out": lambda n: entry.output.check(arguments[n]),
        "gate out": lambda n: reflex.judge(arguments[-1 - n], policy),
        "checkpoint": lambda _n: record.as_dict(),
    }


COUNT = 1000
"""Payloads that the parts are measured with, once each in a round."""


def measure(call: Callable[[int], Any]) -> float:
    """µs per call over all payloads."""
    begun = time.process_time()
    for number in range(COUNT):
        call(number)
    return (time.process_time() - begun) / COUNT * 1e6


def told(name: str, found: Sequence[float]) -> None:
    print(f"{name:<34} {statistics.median(found):>8.1f} {min(found):>8.1f}")


async def measure_all(steps: int, rounds: int, lines: int) -> None:
    """Measure and print the table."""

    async def forget(_record: StepRecord) -> None:
        """Nothing is kept."""

    fresh = count(1)
    async with open_toolbox(Settings(), None) as toolbox:
        ports = Ports(toolbox.call, forget, lambda: datetime.now(UTC), lambda _name: None)
        print(f"{'µs per step':<34} {'median':>8} {'least':>8}")
        for size in (1, 10, 100):
            plan, runs = plan_of(size), max(1, steps // size)
            await carry_out(plan, ports, [params_of(next(fresh), lines)])
            free = ungated(plan)
            variants = {
                "distinct payloads": (plan, fresh),
                "one payload": (plan, repeat(0)),
                "no gate": (free, fresh),
            }
            for kind, (chosen, numbers) in variants.items():
                payloads = [[params_of(next(numbers), lines) for _ in range(runs)] for _ in range(rounds)]
                told(f"{size} steps, {kind}", [await carry_out(chosen, ports, each) for each in payloads])
    found = {name: [measure(call) for _ in range(rounds)] for name, call in parts(plan_of(1), lines).items()}
    for name, times in found.items():
        told(f"  {name}", times)
    told("  all of these", [sum(times) for times in zip(*found.values(), strict=True)])
    payload = params_of(0, lines)
    told("yardstick", [measure(lambda _n: json.loads(json.dumps(payload))) for _ in range(rounds)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=0)
    given = parser.parse_args(arguments)
    asyncio.run(measure_all(given.steps, given.rounds, given.lines))


if __name__ == "__main__":
    main()
