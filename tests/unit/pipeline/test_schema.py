"""The published schema of pipelines: what an editor shows while somebody writes one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from engine.contract import compile_schema
from engine.pipeline import parse_definition
from engine.pipeline.shape import schema
from tests.unit.pipeline.documents import small, step

SHOWN = {
    "$schema", "$ref", "$defs", "title", "description", "examples", "default", "type", "enum", "const", "required",
    "properties", "patternProperties", "additionalProperties", "propertyNames", "items", "uniqueItems", "pattern",
    "errorMessage", "allOf", "anyOf", "oneOf", "minLength", "maxLength", "minItems", "maxItems", "minProperties",
    "maxProperties", "minimum", "maximum", "exclusiveMinimum",
}  # fmt: skip
"""Keywords that YAML language servers show, complete or check by."""


def properties(node: Any, place: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every property of the schema with its place."""
    if isinstance(node, list):
        for number, item in enumerate(node):
            yield from properties(item, f"{place}/{number}")
    elif isinstance(node, Mapping):
        for name, sub in node.get("properties", {}).items():
            yield f"{place}/properties/{name}", sub
        for key, sub in node.items():
            if key not in ("examples", "default", "enum", "const"):
                yield from properties(sub, f"{place}/{key}")


def keywords(node: Any, names: bool = False) -> Iterator[str]:
    """Every keyword; the keys of `properties` and `$defs` are names."""
    for item in node if isinstance(node, list) else ():
        yield from keywords(item)
    for key, sub in node.items() if isinstance(node, Mapping) else ():
        if not names:
            yield key
        if names or key not in ("examples", "default", "enum", "const"):
            yield from keywords(sub, not names and key in ("properties", "patternProperties", "$defs"))


PIPELINE = schema("pipeline-v1")
PROPERTIES = dict(properties(PIPELINE))


@pytest.mark.parametrize("place", PROPERTIES)
def test_every_property_is_explained(place: str) -> None:
    """Title and description, and at least one value to begin with, which the property itself accepts."""
    found = PROPERTIES[place]
    assert found["title"][0].isupper()
    assert found["description"].endswith((".", "}"))
    contract = compile_schema({"$defs": PIPELINE["$defs"], **found})
    values = [*found.get("examples", ()), *([found["default"]] if "default" in found else ())]
    assert values or "enum" in found
    for value in values:
        assert contract.check(value, show_keys=True) == []


def test_there_is_nothing_that_editors_cannot_show() -> None:
    """No construct beyond those that language servers complete from; every shared part is explained as well."""
    assert set(keywords(PIPELINE)) <= SHOWN
    assert all(part["title"] and part["description"] for part in PIPELINE["$defs"].values())
    assert len(PROPERTIES) > 60


EXAMPLES = [
    (name, value)
    for name, sub in PIPELINE["properties"].items()
    for value in sub.get("examples", ())
    if name != "output"
]


@pytest.mark.parametrize(
    ("name", "value"), EXAMPLES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(EXAMPLES)]
)
def test_its_examples_are_definitions(name: str, value: Any) -> None:
    """Each example of a top member stands in a definition that parses, meaning included."""
    needed: dict[str, Any] = {"params": {"city": "Chisinau"}}
    event = {"schedule": {"event": "order.paid"}} if name == "dedupe" else {}
    assert parse_definition(small(**(needed | event | {name: value}))).document


STEPS = [
    (place.rsplit("/", 1)[1], value)
    for place, sub in PROPERTIES.items()
    if place.startswith("/$defs/step/properties/") and place.count("/") == 4
    for value in sub.get("examples", ())
]


@pytest.mark.parametrize(("name", "value"), STEPS, ids=[f"{name}-{n}" for n, (name, _) in enumerate(STEPS)])
def test_its_examples_of_steps_are_steps(name: str, value: Any) -> None:
    """Each example of a step's member stands in a step that parses."""
    before: list[dict[str, Any]] = [
        {"id": each, "uses": "core.echo"} for each in ("events", "weather", "calendar")
    ]
    if name in ("id", "save_as"):
        before = []
    last = step(**{name: value})["steps"][0]
    if name == "needs":
        before = [each | {"needs": []} for each in before]
    assert parse_definition(small(steps=[*before, last])).steps[-1]


def test_its_defaults_are_those_that_hold() -> None:
    """What the schema calls a default is what a definition without the member means."""
    default = {place.split("/")[-1]: sub["default"] for place, sub in PROPERTIES.items() if "default" in sub}
    plain = parse_definition(small())
    assert (plain.priority, plain.schedule.timezone) == (default["priority"], default["timezone"])
    (only,) = plain.steps
    assert (only.max_parallel, only.on_error) == (default["max_parallel"], default["on_error"])
    retry = parse_definition(small(retry={})).retry
    assert (retry.max_attempts, retry.backoff) == (default["max_attempts"], default["backoff"])
    concurrency = parse_definition(small(concurrency={})).concurrency
    assert concurrency == {"key": None, "limit": default["limit"], "on_conflict": default["on_conflict"]}
