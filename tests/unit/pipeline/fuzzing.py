"""Definitions that nobody meant: drawn from the published schema, and valid ones with parts broken or moved.

Drawn from a seed with the standard library's generator, which is some twenty times cheaper than a strategy: a failing
seed is named and draws the same document again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from engine.pipeline.shape import schema
from tests.unit.pipeline.documents import SEED, briefing, small

TOOLS = ("core.echo", "core.echo", "core.transform", "core.fail", "core.sleep")
WORDS = [
    "", "x", "morning", "15m", "0s", "P1D", "${now}", "${steps.calendar.x}", "${", "$${", "${secrets.A}", "${item}",
    "a.b > 1", "!", "FREQ=DAILY", "* * * * *", "2026-12-01", "Europe/Berlin", "fail", "calendar", "block", "manual",
    "\x00", "\ud800", "ü😀", "a" * 3000, "[" * 200, "${params}", "${to_string(steps)}", "${error.code}", "core.fail",
    "${from_json('x')}", "${[steps, steps]}", "length(params) > 0", "status.one == 'failed'", "steps.one.text",
]  # fmt: skip
KEYS = [
    "id", "uses", "with", "if", "needs", "schedule", "rrule", "cron", "every", "manual", "reflex", "retry", "on",
    "steps", "$ref", "type", "x-a", "~/", "", "foreach", "max_parallel", "on_error", "value", "timeout", "params",
]  # fmt: skip
RUNNING = small(
    params={"list": [1, "two", None], "n": 3},
    retry={"max_attempts": 2, "delay": "1ms"},
    steps=[
        {"id": "one", "uses": "core.echo", "needs": [],
         "with": {"text": "${params.n} ${now}", "list": "${params.list}"}},
        {"id": "two", "uses": "core.transform", "needs": ["one"],
         "with": {"input": "${steps.one}", "expression": "text"}},
        {"id": "each", "uses": "core.echo", "needs": ["one"], "foreach": "${steps.one.list}", "max_parallel": 2,
         "with": {"it": "${item}", "at": "${index}"}, "on_error": {"value": None}},
        {"id": "bad", "uses": "core.fail", "needs": ["two"], "with": {"message": "no"}, "on_error": "continue"},
    ],
    on_failure=[{"id": "told", "uses": "core.echo", "with": {"e": "${error.code}"}}],
    output={"all": "${steps}"},
)  # fmt: skip


def drawn(random: Random) -> Any:
    """One document: half of them mutated, half from the schema."""
    if random.random() < 0.5:
        return mutated(random)
    document = from_schema(random, schema("pipeline-v1"))
    return mutated(random, document) if random.random() < 0.3 else document


def mutated(random: Random, document: Any = None) -> Any:
    """A valid definition (or `document`) with a few parts taken away, replaced, moved or added."""
    if document is None:
        starts = [RUNNING, RUNNING, SEED, small()] + [briefing().value] * (random.random() < 0.2)
        document = random.choice(starts)
    document = copy.deepcopy(document)
    for _ in range(random.randint(1, 4)):
        found = places(document)
        if found:
            container, key = random.choice(found)
            random.choice((_replace, _replace, _remove, _add, _move))(random, found, container, key)
    return document


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with every key or index in it."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
        found += [(item, key) for key in keys]
        waiting += [item[key] for key in keys]
    return found


def _replace(random: Random, _found: Any, container: Any, key: Any) -> None:
    container[key] = anything(random)


def _remove(_random: Random, _found: Any, container: Any, key: Any) -> None:
    del container[key]


def _add(random: Random, _found: Any, container: Any, _key: Any) -> None:
    if isinstance(container, dict):
        container[random.choice(KEYS)] = anything(random)
    else:
        container.append(anything(random))


def _move(random: Random, found: Any, container: Any, key: Any) -> None:
    source, at = random.choice(found)
    container[key] = copy.deepcopy(source[at])


def anything(random: Random, depth: int = 0) -> Any:
    """A JSON value, or what some reader takes for one."""
    leaves: list[Callable[[], Any]] = [
        lambda: None, lambda: random.random() < 0.5, lambda: random.randint(-2, 10**20), lambda: random.uniform(-9, 9),
        lambda: random.choice([float("nan"), float("inf"), -0.0, 1e300]), lambda: random.choice(WORDS),
        lambda: random.choice(WORDS), lambda: "".join(chr(random.randint(1, 0x2FFF)) for _ in range(6)),
    ]  # fmt: skip
    if depth < 3 and random.random() < 0.35:
        count = random.randint(0, 3)
        if random.random() < 0.5:
            return [anything(random, depth + 1) for _ in range(count)]
        return {random.choice(KEYS): anything(random, depth + 1) for _ in range(count)}
    return random.choice(leaves)()


def from_schema(random: Random, node: Any, name: str = "", depth: int = 0) -> Any:
    """A value that the published schema's `node` accepts, mostly."""
    if not isinstance(node, Mapping) or random.random() < 0.01:
        return anything(random)
    if name == "uses":
        return random.choice(TOOLS)
    if "examples" in node and random.random() < (0.5 if name in ("schedule", "steps") else 0.8):
        return copy.deepcopy(random.choice(node["examples"]))
    if "$ref" in node:
        part = schema("pipeline-v1")["$defs"][node["$ref"].rsplit("/", 1)[1]]
        return from_schema(random, part, name, depth)
    for key, make in _MAKERS.items():
        if key in node:
            return make(random, node, depth)
    return anything(random)


def _typed(random: Random, node: Mapping[str, Any], depth: int) -> Any:
    kinds = node["type"]
    kind = random.choice(kinds) if isinstance(kinds, list) else kinds
    if kind == "object":
        return _object(random, node, depth)
    if kind == "array":
        count = random.randint(node.get("minItems", 0), 4)
        return [from_schema(random, node.get("items"), "", depth + 1) for _ in range(count)]
    if kind in ("integer", "number"):
        return random.randint(int(node.get("minimum", 1)), int(node.get("maximum", 50)))
    return random.random() < 0.5 if kind == "boolean" else random.choice(WORDS)


def _object(random: Random, node: Mapping[str, Any], depth: int) -> dict[str, Any]:
    members = node.get("properties", {})
    wanted = set(node.get("required", ()))
    choices = node.get("allOf", [{}])[0].get("oneOf", ())
    kinds = {form["required"][0] for form in choices}
    wanted |= {random.choice(sorted(kinds))} if kinds else set()
    optional = [key for key in members if key not in wanted | kinds]
    few = random.sample(optional, min(len(optional), random.randint(0, 3))) if depth < 5 else []
    keys = [key for key in members if key in wanted or key in few]
    return {key: from_schema(random, members[key], key, depth + 1) for key in keys}


_MAKERS: Mapping[str, Callable[[Random, Mapping[str, Any], int], Any]] = {
    "const": lambda random, node, depth: node["const"],
    "enum": lambda random, node, depth: random.choice(node["enum"]),
    "anyOf": lambda random, node, depth: from_schema(random, random.choice(node["anyOf"]), "", depth),
    "type": _typed,
}
