"""Contracts: what goes into a tool, comes out of it, or parametrises a run, as JSON Schema 2020-12.

Formats are asserted. `$ref` stays within the schema: nothing is ever fetched. Patterns are matched by RE2, so
no text can stall a worker. A schema is compiled once; most checks are then a fast yes (see `acceptance`), and
only a no is worked out in full (see `wording`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import re2
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from engine.contract.acceptance import Accept, Acceptance, NotCovered, matcher
from engine.contract.wording import pointer_of, problems
from engine.errors import Problem, ValidationFailed
from engine.expressions.values import copied

Schema = Mapping[str, Any]
Fill = Callable[[Any], Any]

_MAX_DEPTH = 40  # of a schema
_NAMES_BELOW = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_TOO_DEEP = Problem("too_deep", "is nested too deeply to be checked")


class Contract:
    """A compiled schema. It holds no state of its checks and may be shared by threads and tasks."""

    __slots__ = ("_accept", "_fill", "_validator", "schema")

    def __init__(
        self, schema: Schema, validator: Validator, accept: Accept | None, fill: Fill | None
    ) -> None:
        self.schema = schema
        self._validator, self._accept, self._fill = validator, accept, fill

    def check(self, value: Any, *, show_keys: bool = False) -> list[Problem]:
        """What is wrong with `value`; empty when nothing is. Pointers count from `value`.

        Problems never quote the value. Keys that do not look like names appear only with `show_keys`, which
        is for documents whose author reads the answer.
        """
        try:
            if self._accept is not None and self._accept(value):
                return []
            errors = sorted(self._validator.iter_errors(value), key=lambda error: list(map(str, error.path)))
            return problems(errors, show_keys)
        except RecursionError:
            return [_TOO_DEEP]

    def with_defaults(self, value: Any) -> Any:
        """`value` with the `default`s of absent properties filled in; `value` itself is not changed.

        Followed are properties, items, allOf and local `$ref`s, not the branches of anyOf and oneOf.
        """
        return value if self._fill is None else self._fill(value)


def compile_schema(schema: Schema) -> Contract:
    """The contract that `schema` writes.

    Raises ValidationFailed, pointers counted from `schema`, when it is not a JSON Schema, refers outside
    itself, or holds a pattern that is not RE2's.
    """
    found = list(_faults(schema)) if isinstance(schema, Mapping) else [_not_an_object()]
    if found:
        detail = f"not a usable JSON Schema: {found[0].pointer or 'the schema'}: {found[0].detail}"
        raise ValidationFailed(detail, errors=tuple(found))
    # A `$schema` of another draft would make the validator change its class at every `$ref: "#"`.
    plain = {key: value for key, value in copied(dict(schema)).items() if key not in ("$schema", "$id")}
    validator = _Validator(plain, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return Contract(schema, validator, _acceptance(plain), _filler(plain, plain, ()))


def _not_an_object() -> Problem:
    return Problem("wrong_type", "must be an object")


def _acceptance(schema: Schema) -> Accept | None:
    try:
        return Acceptance(schema, lambda target: _resolved(schema, target)).accept
    except NotCovered:
        return None


def _faults(schema: Schema) -> Iterator[Problem]:
    try:
        json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        yield Problem("wrong_type", "must be JSON")
        return
    metaschema = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    found = problems(metaschema.iter_errors(schema), show_keys=True)
    yield from found
    if not found:
        yield from _own_faults(schema, schema, (), 0)


def _own_faults(node: Any, root: Schema, path: tuple[str | int, ...], depth: int) -> Iterator[Problem]:
    """What the metaschema allows and we do not: references that leave the schema, patterns beyond RE2."""
    if depth > _MAX_DEPTH:
        yield Problem("too_deep", f"a schema is nested at most {_MAX_DEPTH} levels deep", pointer_of(path))
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _keyword_faults(key, value, root, (*path, key))
            if key not in ("enum", "const", "default", "examples"):
                yield from _own_faults(value, root, (*path, key), depth + 1)
    elif isinstance(node, list):
        for position, item in enumerate(node):
            yield from _own_faults(item, root, (*path, position), depth + 1)


def _keyword_faults(key: str, value: Any, root: Schema, path: tuple[str | int, ...]) -> Iterator[Problem]:
    inside_properties = len(path) > 1 and path[-2] in (
        "properties",
        "$defs",
        "definitions",
        "patternProperties",
    )
    if key in ("$ref", "$dynamicRef") and isinstance(value, str) and not inside_properties:
        yield from _reference_faults(value, root, path)
    if key == "$id" and isinstance(value, str) and len(path) > 1 and not inside_properties:
        yield Problem("embedded_id", "a schema inside a schema has no $id", pointer_of(path))
    if key == "pattern" and isinstance(value, str) and not inside_properties:
        yield from _pattern_faults(value, path)
    if len(path) > 1 and path[-2] == "patternProperties":
        yield from _pattern_faults(key, path)


def _reference_faults(target: str, root: Schema, path: tuple[str | int, ...]) -> Iterator[Problem]:
    if not target.startswith("#"):
        yield Problem("remote_reference", "a $ref stays within the schema: '#/$defs/…'", pointer_of(path))
    elif _resolved(root, target) is None:
        yield Problem("unknown_reference", "the $ref points to nothing", pointer_of(path))
    elif _chases_itself(root, target):
        yield Problem("circular_reference", "the $ref leads only back to itself", pointer_of(path))


def _pattern_faults(pattern: str, path: tuple[str | int, ...]) -> Iterator[Problem]:
    try:
        matcher(pattern)
    except re2.error:
        detail = "is not an RE2 regular expression (it has no look-around and no back-references)"
        yield Problem("pattern", detail, pointer_of(path))


def _resolved(root: Schema, target: str) -> Any:
    """The subschema that a local reference names (pointer or anchor), or None."""
    if target in ("#", "#/"):
        return root if target == "#" else None
    if not target.startswith("#/"):
        return _anchored(root, target[1:])
    node: Any = root
    for token in target[2:].split("/"):
        key = token.replace("~1", "/").replace("~0", "~")
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


def _chases_itself(root: Schema, target: str) -> bool:
    """Whether following `$ref`s from `target`, without going deeper into the value, never ends."""
    seen: set[str] = set()
    waiting = [target]
    while waiting:
        current = waiting.pop()
        if current == target and seen:
            return True
        if current not in seen:
            seen.add(current)
            waiting += _in_place(_resolved(root, current))
    return False


def _in_place(schema: Any) -> list[str]:
    """The references that apply to the same value as `schema` does."""
    if not isinstance(schema, Mapping):
        return []
    found = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    lists = [sub for key in ("allOf", "anyOf", "oneOf") for sub in schema.get(key, ())]
    singles = [schema[key] for key in ("not", "if", "then", "else") if key in schema]
    return found + [target for sub in lists + singles for target in _in_place(sub)]


def _filler(schema: Any, root: Schema, open_refs: tuple[str, ...]) -> Fill | None:
    """The function that fills in the defaults of `schema`, or None where it has none."""
    if not isinstance(schema, Mapping):
        return None
    fills = [_filler(sub, root, open_refs) for sub in schema.get("allOf", ())]
    target = schema.get("$ref")
    if isinstance(target, str) and target not in open_refs:  # a recursive schema is filled one level deep
        fills.append(_filler(_resolved(root, target), root, (*open_refs, target)))
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


def _object_filler(schema: Schema, root: Schema, open_refs: tuple[str, ...]) -> Fill | None:
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


def _array_filler(schema: Schema, root: Schema, open_refs: tuple[str, ...]) -> Fill | None:
    each = _filler(schema.get("items"), root, open_refs)
    return each and (lambda value: [each(item) for item in value] if isinstance(value, list) else value)


def _pattern(_: Validator, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not matcher(pattern)(value):
        yield ValidationError("pattern")


def _pattern_properties(
    validator: Validator, patterns: Mapping[str, Any], value: Any, _: Any
) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    for pattern, sub in patterns.items():
        for key in filter(matcher(pattern), value):
            yield from cast(Any, validator).descend(value[key], sub, path=key, schema_path=pattern)


def _unique_items(_: Validator, wanted: bool, value: Any, __: Any) -> Iterator[ValidationError]:
    """By canonical text: pairwise comparison of a long list would take its length squared."""
    if wanted and isinstance(value, list):
        texts = {json.dumps(_canonical(item), sort_keys=True) for item in value}
        if len(texts) < len(value):
            yield ValidationError("uniqueItems")


def _canonical(value: Any) -> Any:
    """1 and 1.0 are one number to JSON Schema."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    return [_canonical(item) for item in value] if isinstance(value, list) else value


_Validator = cast(Any, extend)(  # untyped in the stubs
    Draft202012Validator,
    {"pattern": _pattern, "patternProperties": _pattern_properties, "uniqueItems": _unique_items},
)
