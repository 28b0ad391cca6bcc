"""The `default`s of a schema, filled into values. Values that are given are never changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.contract.soundness import resolved
from engine.expressions.values import copied

Fill = Callable[[Any], Any]


def filler(schema: Any) -> Fill | None:
    """The function that fills in the defaults of `schema`, or None where it has none."""
    return _filler(schema, schema, ())


def _filler(schema: Any, root: Any, open_refs: tuple[str, ...]) -> Fill | None:
    if not isinstance(schema, Mapping):
        return None
    fills = [_filler(sub, root, open_refs) for sub in schema.get("allOf", ())]
    target = schema.get("$ref")
    if isinstance(target, str) and target not in open_refs:  # a recursive schema is filled one level deep
        fills.append(_filler(resolved(root, target), root, (*open_refs, target)))
    fills.append(_object_filler(schema, root, open_refs))
    fills.append(_array_filler(schema, root, open_refs))
    return _in_turn([fill for fill in fills if fill is not None])


def _in_turn(fills: list[Fill]) -> Fill | None:
    if len(fills) < 2:
        return fills[0] if fills else None

    def fill(value: Any) -> Any:
        for each in fills:
            value = each(value)
        return value

    return fill


def _object_filler(schema: Mapping[str, Any], root: Any, open_refs: tuple[str, ...]) -> Fill | None:
    properties = {k: sub for k, sub in schema.get("properties", {}).items() if isinstance(sub, Mapping)}
    defaults = {name: sub["default"] for name, sub in properties.items() if "default" in sub}
    fillers = {name: _filler(sub, root, open_refs) for name, sub in properties.items()}
    below = {name: fill for name, fill in fillers.items() if fill is not None}
    if not defaults and not below:
        return None

    def fill(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        filled = value | {name: copied(given) for name, given in defaults.items() if name not in value}
        return filled | {name: each(filled[name]) for name, each in below.items() if name in filled}

    return fill


def _array_filler(schema: Mapping[str, Any], root: Any, open_refs: tuple[str, ...]) -> Fill | None:
    each = _filler(schema.get("items"), root, open_refs)
    return each and (lambda value: [each(item) for item in value] if isinstance(value, list) else value)
