"""JSON values as JMESPath sees them: their types, their truth, their equality, and the bounds they keep."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

MAX_TEXT_RESULT = 8_000_000  # characters of one text an expression may make
MAX_ITEMS = 1_000_000  # values of one list, or of one whole result
MAX_STEPS = 5_000_000  # of one evaluation: a part applied to an element, a value compared or copied
_CHARACTERS = 16  # that a text may have for one step
_MAX_DEPTH = 200

_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_PLACEHOLDER = re.compile("\ue000[0-9a-f]{16}:")


class Refused(Exception):
    """An evaluation that has no answer; the message names types and limits, never a value."""


class Meter:
    """What one evaluation may still cost. Counted in steps, not in time: a definition fails everywhere or nowhere."""

    __slots__ = ("left",)

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        """Pay before the work is done. Raises Refused when there is not enough left."""
        self.left -= steps
        if self.left < 0:
            raise Refused(f"it takes more than {MAX_STEPS} steps on this data: filter first, or use a tool")

    def spend_on(self, value: Any) -> None:
        """Pay for looking once through a text, a list or an object."""
        kind = type(value)
        if kind is str:
            self.spend(1 + len(value) // _CHARACTERS)
        elif kind is list or kind is dict:
            self.spend(1 + len(value))


class Reference:
    """An `&expression`: what map, sort_by, min_by and max_by apply to each element, paid for as a whole."""

    __slots__ = ("_apply", "_meter", "_price")

    def __init__(self, apply: Callable[[Any, Meter], Any], price: int, meter: Meter) -> None:
        self._apply, self._price, self._meter = apply, price, meter

    def over(self, items: list[Any]) -> list[Any]:
        """The result for each element."""
        self._meter.spend(len(items) * self._price)
        return [self._apply(item, self._meter) for item in items]


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


def equal(left: Any, right: Any, meter: Meter | None = None) -> bool:
    """Deep equality that keeps numbers and booleans apart, which Python's own does not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        if len(left) != len(right):
            return False
        if meter is not None:
            meter.spend(len(left))
        return all(equal(one, other, meter) for one, other in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        if left.keys() != right.keys():
            return False
        if meter is not None:
            meter.spend(len(left))
        return all(equal(value, right[key], meter) for key, value in left.items())
    return bool(left == right)


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


def size_of(value: Any) -> int:
    """How many values a JSON value is made of, itself included."""
    count, level = 0, [value]
    while level:
        count += len(level)
        members = (
            each.values() if isinstance(each, dict) else each
            for each in level
            if isinstance(each, dict | list)
        )
        level = [item for group in members for item in group]
    return count


def check_size(value: Any, meter: Meter | None = None) -> None:
    """Raise Refused when a value is larger, or deeper, than an expression may make it; pay for the walk."""
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
    if meter is not None:
        meter.spend(MAX_ITEMS - left + (MAX_TEXT_RESULT - characters) // _CHARACTERS)
