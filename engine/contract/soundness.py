"""Which schemas are usable: JSON Schema 2020-12, closed in itself, and matched by RE2.

Nothing here fetches, and nothing that passes can make a check go round in circles.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from urllib.parse import urljoin

import re2
from jsonschema import Draft202012Validator
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # it ships no types

from engine.contract.acceptance import Accept, Acceptance, matcher
from engine.contract.wording import pointer_of, problems
from engine.errors import Problem
from engine.expressions.values import copied

MAX_DEPTH = 40
DATA = ("enum", "const", "default", "examples")  # what these hold is data, not schemas
NAMES = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")  # of what they hold

Path = tuple[str | int, ...]


def faults(schema: Any) -> Iterator[Problem]:
    """What keeps `schema` from being used, pointers counted from it."""
    if not isinstance(schema, Mapping):
        yield Problem("wrong_type", "must be an object")
        return
    if _too_deep(schema):
        yield Problem("too_deep", f"a schema is nested at most {MAX_DEPTH} levels deep")
        return
    try:
        json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError):
        yield Problem("wrong_type", "must be JSON")
        return
    found = [] if _metaschema()(schema) else _broken(schema)
    yield from found
    if not found:
        yield from _own_faults(schema, schema, (), False)


def _broken(schema: Any) -> list[Problem]:
    """What the metaschema says, in full: it takes some milliseconds for each schema."""
    metaschema = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    return problems(metaschema.iter_errors(schema), show_keys=True)


@cache
def _metaschema() -> Accept:
    """A fast yes of the metaschema's: its vocabularies, which share no property, as one schema without `$dynamicRef`.

    It asserts formats too, so its no may be wrong, and never its yes.
    """
    whole = Draft202012Validator.META_SCHEMA
    parts = [REGISTRY.contents(urljoin(whole["$id"], part["$ref"])) for part in whole["allOf"]]
    merged: dict[str, Any] = {"type": whole["type"], "properties": {}, "$defs": {}}
    for part in (whole, *parts):
        merged["properties"] |= _closed(part["properties"])
        merged["$defs"] |= _closed(part.get("$defs", {}))
    return Acceptance(merged, lambda target: resolved(merged, target)).accept


def _closed(node: Any) -> Any:
    """The same with every reference leading into the merged schema."""
    if isinstance(node, Mapping):
        return dict(_closed_member(key, value) for key, value in node.items())
    return [_closed(item) for item in node] if isinstance(node, list) else node


def _closed_member(key: str, value: Any) -> tuple[str, Any]:
    if key in ("$ref", "$dynamicRef") and isinstance(value, str):
        return "$ref", "#" if value == "#meta" else f"#{value.partition('#')[2]}"
    return key, _closed(value)


def _own_faults(node: Any, root: Any, path: Path, names: bool) -> Iterator[Problem]:
    """What the metaschema allows and we do not. `names`: the keys of `node` are names, not keywords."""
    if isinstance(node, list):
        for position, item in enumerate(node):
            yield from _own_faults(item, root, (*path, position), False)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            below = (*path, key)
            if not names:
                yield from _keyword_faults(key, value, root, below)
            elif path[-1] == "patternProperties":
                yield from _pattern_faults(key, below)
            if names or key not in DATA:
                yield from _own_faults(value, root, below, not names and key in NAMES)


def _keyword_faults(key: str, value: Any, root: Any, path: Path) -> Iterator[Problem]:
    if key in ("$ref", "$dynamicRef") and isinstance(value, str):
        yield from _reference_faults(value, root, path)
    elif key == "$id" and len(path) > 1:
        yield Problem("embedded_id", "a schema inside a schema has no $id", pointer_of(path))
    elif key == "pattern" and isinstance(value, str):
        yield from _pattern_faults(value, path)


def _reference_faults(target: str, root: Any, path: Path) -> Iterator[Problem]:
    if not target.startswith("#"):
        yield Problem("remote_reference", "a $ref stays within the schema: '#/$defs/…'", pointer_of(path))
    elif resolved(root, target) is None:
        yield Problem("unknown_reference", "the $ref points to nothing", pointer_of(path))
    elif _chases_itself(root, target):
        yield Problem("circular_reference", "the $ref leads only back to itself", pointer_of(path))


def _pattern_faults(pattern: str, path: Path) -> Iterator[Problem]:
    try:
        matcher(pattern)
    except re2.error:
        detail = "is not an RE2 regular expression (it has no look-around and no back-references)"
        yield Problem("pattern", detail, pointer_of(path))


def resolved(root: Any, target: str) -> Any:
    """The subschema that a local reference names (pointer or anchor), or None. Data holds no subschemas."""
    if target in ("#", "#/"):
        return root if target == "#" else None
    if not target.startswith("#/"):
        return _anchored(root, target[1:])
    node: Any = root
    names = False
    for token in target[2:].split("/"):
        key = token.replace("~1", "/").replace("~0", "~")
        if not names and (key in DATA or key.startswith("x-")):
            return None
        names = not names and key in NAMES
        if isinstance(node, Mapping):
            node = node.get(key)
        elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node if isinstance(node, bool | Mapping) else None


def _anchored(node: Any, name: str) -> Any:
    if isinstance(node, Mapping):
        if name in (node.get("$anchor"), node.get("$dynamicAnchor")):
            return node
        node = list(node.values())
    if not isinstance(node, list):
        return None
    return next((found for item in node if (found := _anchored(item, name)) is not None), None)


def _chases_itself(root: Any, target: str) -> bool:
    """Whether following `$ref`s from `target`, without going deeper into the value, never ends."""
    seen: set[str] = set()
    waiting = [target]
    while waiting:
        current = waiting.pop()
        if current == target and seen:
            return True
        if current not in seen:
            seen.add(current)
            waiting += _in_place(resolved(root, current))
    return False


def _in_place(schema: Any) -> list[str]:
    """The references that apply to the same value as `schema` does."""
    if not isinstance(schema, Mapping):
        return []
    found = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    lists = [sub for key in ("allOf", "anyOf", "oneOf") for sub in schema.get(key, ())]
    singles = [schema[key] for key in ("not", "if", "then", "else") if key in schema]
    return found + [target for sub in lists + singles for target in _in_place(sub)]


def _too_deep(schema: Any) -> bool:
    level = [schema]
    for _ in range(MAX_DEPTH):
        level = [
            below
            for node in level
            if isinstance(node, Mapping | list)
            for below in (node.values() if isinstance(node, Mapping) else node)
        ]
    return bool(level)


def explicit(schema: Any) -> Any:
    """A copy of `schema` in which `false` for a property or an element is {"not": {}}.

    The validator reports a bare false without its place.
    """
    if isinstance(schema, list):
        return [explicit(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key in NAMES and isinstance(value, Mapping):
            made[key] = {name: explicit(_said(sub)) for name, sub in value.items()}
        elif key == "prefixItems" and isinstance(value, list):
            made[key] = [explicit(_said(sub)) for sub in value]
        else:
            made[key] = copied(value) if key in DATA else explicit(_said(value) if key == "items" else value)
    return made


def _said(schema: Any) -> Any:
    return {"not": {}} if schema is False else schema
