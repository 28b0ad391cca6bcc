"""Random pipelines whose ends do not depend on luck: undisturbed, each always ends in the same way."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.factories import step

Members = dict[str, Any]
WEIGHTS: Mapping[str, float] = {
    "tool": 9,
    "sleep": 2,
    "event": 2,
    "approval": 2,
    "child": 1.2,
    "items": 3,
    "asked_items": 1.5,
    "sleeping_items": 1.5,
}
TOOLS = ("walk.once", "walk.again", "walk.rated")
CHILD = "child"
LONG = "2h"
"""A run's timeout, there to be rendered and stored, never to be reached."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A pipeline. `topics` are those of its waits that may be published before anybody waits."""

    steps: Sequence[Members]
    members: Members
    topics: Sequence[str]


def child_steps() -> list[Members]:
    """The pipeline of the task that others start and wait for."""
    nap = step("nap", "core.sleep", with_={"duration": "10ms"})
    return [step("work", "walk.once", with_={"n": "${params.k}"}), nap]


def draw(dice: random.Random, number: int) -> Drawn:
    """The pipeline `number` of a walk."""
    metered = dice.random() < 0.25  # what a budget stops is certain only where steps run one after the other
    ordered = metered or dice.random() < 0.3
    names = [f"s{place}" for place in range(dice.randint(2, 5))]
    steps = [_step(dice, names[: place + 1], ordered, metered) for place in range(len(names))]
    members = _members(dice, number, metered) | {"output": {name: f"${{steps.{name}}}" for name in names}}
    topics = [one["with"]["topic"] for one in steps if "since" in one.get("with", ())]
    return Drawn(steps, members, topics)


def _members(dice: random.Random, number: int, metered: bool) -> Members:
    members: Members = {}
    if metered:
        members["budget"] = {"max_tokens": dice.choice([1, 10, 11, 20, 25, 1000])}
    if dice.random() < 0.3:
        members["retry"] = {"max_attempts": dice.randint(2, 3), "delay": "10ms", "backoff": "fixed"}
    if dice.random() < 0.35:
        members["on_failure"] = _on_failure(dice)
    if dice.random() < 0.25:
        members["concurrency"] = {"key": f"k{number % 2}", "limit": dice.randint(1, 2)}
    if dice.random() < 0.2:
        members["timeout"] = LONG
    return members


def _on_failure(dice: random.Random) -> list[Members]:
    told = {"n": "${error.code}", "reject": dice.random() < 0.3}
    return [
        step("f0", dice.choice(TOOLS[:2]), with_={"n": "x"}),
        step("f1", "core.sleep", with_={"duration": "20ms"}),
        step("f2", "walk.once", with_=told),
    ]


def _step(dice: random.Random, names: Sequence[str], ordered: bool, metered: bool) -> Members:
    """The last of `names`; it may need or read those before it."""
    *before, name = names
    members: Members = {}
    if not ordered:
        members["needs"] = dice.sample(before, dice.randint(0, min(2, len(before))))
    elif before and dice.random() < 0.1:
        members["if"] = "run.attempt > 100"
    (kind,) = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))
    made = KINDS[kind](dice, name, metered) | members
    readable = members.get("needs", before[-1:])
    if kind == "tool" and readable and not metered and dice.random() < 0.4:
        made["with"]["from"] = f"${{steps.{readable[0]}}}"
    return made


def _tool(dice: random.Random, name: str, metered: bool) -> Members:
    given: Members = {"n": name} | ({"tokens": 10} if metered else {})
    members: Members = {}
    if dice.random() < 0.4:
        given["flaky"] = dice.randint(1, 3)
        members["retry"] = _retry(dice)
    elif dice.random() < 0.12:
        given["reject"] = True
        members |= _on_error(dice, {"stand_in": name})
    return step(name, dice.choice(TOOLS), with_=given, **members)


def _items(dice: random.Random, name: str, metered: bool) -> Members:
    given: Members = {"n": "${item}"}
    members: Members = {}
    if dice.random() < 0.3:
        given["flaky"] = 1
        members["retry"] = _retry(dice)
    if dice.random() < 0.3:
        given["rejects"] = [dice.randint(0, 3)]
        members |= _on_error(dice, "bad ${index}")
    elif metered:
        given["tokens"] = 3
    return _fan(dice, name, dice.choice(TOOLS), list(range(dice.randint(0, 5))), given) | members


def _fan(dice: random.Random, name: str, uses: str, items: list[int], given: Members) -> Members:
    return step(name, uses, foreach=items, max_parallel=dice.randint(1, 4), with_=given)


def _asked_items(dice: random.Random, name: str, _metered: bool) -> Members:
    items = list(range(dice.randint(1, 3)))
    return _fan(dice, name, "core.approval", items, {"prompt": "item ${item}?"})


def _sleeping_items(dice: random.Random, name: str, _metered: bool) -> Members:
    items = [dice.randint(1, 40) for _ in range(3)]
    return _fan(dice, name, "core.sleep", items, {"duration": "${item}ms"})


def _sleep(dice: random.Random, name: str, _metered: bool) -> Members:
    return step(name, "core.sleep", with_={"duration": f"{dice.randint(1, 60)}ms"})


def _event(dice: random.Random, name: str, _metered: bool) -> Members:
    match = {"filter": "payload.key == given.key", "given": {"key": "${run.id}"}}
    since = {"since": "${now}"} if dice.random() < 0.5 else {}
    return step(name, "core.wait_event", with_={"topic": f"go.{name}", **match, **since})


def _approval(_dice: random.Random, name: str, _metered: bool) -> Members:
    return step(name, "core.approval", with_={"prompt": "well?"})


def _child(_dice: random.Random, name: str, _metered: bool) -> Members:
    return step(name, "task.run_now", with_={"task": CHILD, "wait": True, "params": {"k": name}})


def _retry(dice: random.Random) -> Members:
    return {"max_attempts": 8, "delay": dice.choice(["1ms", "10ms", "30ms"]), "backoff": "fixed"}


def _on_error(dice: random.Random, value: Any) -> Members:
    chosen = dice.choice(["continue", {"value": value}, None])
    return {} if chosen is None else {"on_error": chosen}


KINDS: Mapping[str, Callable[[random.Random, str, bool], Members]] = {
    "tool": _tool,
    "sleep": _sleep,
    "event": _event,
    "approval": _approval,
    "child": _child,
    "items": _items,
    "asked_items": _asked_items,
    "sleeping_items": _sleeping_items,
}
