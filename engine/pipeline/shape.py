"""The shape of documents: the published JSON Schemas, and plain JSON values to hold against them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from engine.contract import Contract, compile_schema
from engine.errors import Problem
from engine.pipeline.documents import MAX_DEPTH, MAX_NODES


@cache
def schema(name: str) -> Mapping[str, Any]:
    """The published schema `name` ("pipeline-v1", "tool-v1", "seed-task"); treat it as read-only."""
    text = resources.files("catalogs").joinpath("schemas", f"{name}.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@cache
def contract(name: str) -> Contract:
    """The contract of the published schema `name`."""
    return compile_schema(schema(name))


def unstorable(value: Any) -> list[Problem]:
    """What keeps `value` from being stored: it is no JSON, too large or deep, or text PostgreSQL refuses."""
    found: list[Problem] = []
    for count, (pointer, item, depth) in enumerate(_walk(value), 1):
        if count > MAX_NODES or depth > MAX_DEPTH:
            detail = f"a definition has at most {MAX_NODES} values and {MAX_DEPTH} levels"
            return [Problem("too_large", detail, pointer)]
        if detail_of := _fault(item):
            found.append(Problem("not_json", detail_of, pointer))
    return found


def _walk(value: Any) -> Iterator[tuple[str, Any, int]]:
    waiting = [("", value, 0)]
    while waiting:
        pointer, item, depth = waiting.pop()
        yield pointer, item, depth
        if isinstance(item, Mapping):
            waiting += [
                (f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}", below, depth + 1)
                for key, below in item.items()
            ]
        elif isinstance(item, list):
            waiting += [(f"{pointer}/{position}", below, depth + 1) for position, below in enumerate(item)]


def _fault(item: Any) -> str | None:
    if isinstance(item, str):
        return _text_fault(item)
    if isinstance(item, dict):
        return next((f"a key: {fault}" for key in item if (fault := _key_fault(key))), None)
    if isinstance(item, float):
        return None if math.isfinite(item) else "must be a finite number"
    known = item is None or isinstance(item, bool | int | list)
    return None if known else "must be a JSON value"


def _key_fault(key: Any) -> str | None:
    return _text_fault(key) if isinstance(key, str) else "must be a string"


def _text_fault(text: str) -> str | None:
    if "\x00" in text:
        return "holds the character U+0000, which PostgreSQL cannot store"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half a surrogate pair, which is not a character"
    return None
