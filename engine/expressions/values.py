"""JSON values as JMESPath sees them: their types, their truth, their equality, and the bounds they keep."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

MAX_TEXT_RESULT = 8_000_000  # characters of one text an expression may make
MAX_ITEMS = 1_000_000  # values of one list, or of one whole result
_MAX_DEPTH = 200

_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_PLACEHOLDER = re.compile("\ue000[0-9a-f]{16}:")


class Refused(Exception):
    """An evaluation that has no answer; the message names types and limits, never a value."""


class Reference:
    """An `&expression`: what map, sort_by, min_by and max_by apply to each element."""

    __slots__ = ("apply",)

    def __init__(self, apply: Callable[[Any], Any]) -> None:
        self.apply = apply


_TYPES = {
    str: "string", bool: "boolean", int: "number", float: "number", list: "array", dict: "object",
    type(None): "null", Reference: "expression",
}  # fmt: skip


def type_of(value: Any) -> str:
    """JMESPath's name for the type of `value`."""
    known = _TYPES.get(type(value))
    if known is None:
        known = next((name for base, name in _WIDER if isinstance(value, base)), "unknown")
    return known


_WIDER: tuple[tuple[type, str], ...] = ((Mapping, "object"), (str, "string"), (list, "array"))


def is_true(value: Any) -> bool:
    """JMESPath's truth: null, false, "", [] and {} are false; everything else is true, 0 included."""
    if value is None or value is False:
        return False
    return bool(value) or not isinstance(value, str | list | dict)


def equal(left: Any, right: Any) -> bool:
    """Deep equality that keeps numbers and booleans apart, which Python's own does not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if left != right:
        return False
    if isinstance(left, list):
        return all(map(equal, left, right))
    if isinstance(left, dict):
        return all(equal(value, right[key]) for key, value in left.items())
    return True


def copied(value: Any) -> Any:
    """A JSON value that shares no list and no object with `value`."""
    if type(value) is dict:
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if type(value) is list else value


def compact_json(value: Any) -> str:
    """`value` as JSON without spaces. Raises Refused for what JSON cannot hold."""
    try:
        return _ENCODE(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused("the value has no JSON form") from error


def check_text(text: str) -> str:
    """`text`, unless it holds a secret's placeholder: taken apart, it would teach tools to forge others."""
    if "\ue000" in text and _PLACEHOLDER.search(text):
        raise Refused("a secret can be passed on whole or inside a longer text, not taken apart or recoded")
    return text


def check_size(value: Any) -> None:
    """Raise Refused when a value is larger, or deeper, than an expression may make it."""
    left, characters = MAX_ITEMS, MAX_TEXT_RESULT
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                characters -= len(item)
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, Mapping):
                below.extend(item.values())
            if len(below) > left or characters < 0:
                raise Refused(
                    f"the result is too large (over {MAX_ITEMS} values or {MAX_TEXT_RESULT} characters)"
                )
        left -= len(below)
        level, depth = below, depth + 1
        if depth > _MAX_DEPTH:
            raise Refused(f"the result is nested more than {_MAX_DEPTH} levels deep")
