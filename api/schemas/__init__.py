"""The JSON Schemas of bodies and answers by name: what OpenAPI publishes is what checks the bodies.

References are written `#/components/schemas/Name`. `bundle` makes one of them stand alone, with everything it
refers to, so that the same texts can be compiled into contracts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from api.schemas import allowances, answers, bodies, schedules, submissions, tools
from api.schemas.words import HERE, Schema, ref
from engine.pipeline.shape import schema as published


def bundle(name: str) -> Schema:
    """The schema `name` with all that it refers to, resolvable by itself."""
    known = components()
    needed: dict[str, Schema] = {}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each not in needed:
            needed[each] = known[each]
            waiting += references(known[each])
    return {"components": {"schemas": needed}, **ref(name)}


@cache
def components() -> Mapping[str, Schema]:
    """Every schema by name; treat them as read-only."""
    documents = {"Pipeline": "pipeline-v1", "OrdinautTask": "seed-task"}
    parts = (
        *(bodies.BODIES, answers.ANSWERS),
        *(schedules.BODIES, schedules.ANSWERS),
        *(tools.bodies(), tools.answers()),
        *(allowances.BODIES, allowances.ANSWERS),
        *(submissions.BODIES, submissions.ANSWERS),
    )
    return {name: _embedded(name, file) for name, file in documents.items()} | _joined(parts)


def _joined(parts: Iterable[Mapping[str, Schema]]) -> dict[str, Schema]:
    return {name: schema for part in parts for name, schema in part.items()}


def references(node: Any) -> Iterator[str]:
    """The names of the schemas that a schema refers to."""
    for target in _targets(node):
        yield target.removeprefix(HERE).partition("/")[0]


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for item in node:
            yield from _targets(item)


def _embedded(name: str, file: str) -> Schema:
    """A published schema as a component: its local references lead to where it stands now."""
    text = json.dumps(published(file)).replace('"#/$defs/', f'"{HERE}{name}/$defs/')
    found: Schema = json.loads(text)
    found.pop("$schema", None)
    return found
