"""Contracts: what goes into a tool, comes out of it, or parametrises a run, as JSON Schema 2020-12.

Formats are asserted. `$ref` stays within the schema: nothing is ever fetched. Patterns are matched by RE2, so
no text can stall a worker. A schema is compiled once; most checks are then a fast yes (see `acceptance`), and
only a no is worked out in full (see `wording`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry

from engine.contract.acceptance import FORMATS, Accept, Acceptance, NotCovered, matcher, repeats
from engine.contract.defaults import Fill, filler
from engine.contract.soundness import explicit, faults, resolved
from engine.contract.wording import problems
from engine.errors import Problem, ValidationFailed

Schema = Mapping[str, Any]

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
    found = list(faults(schema))
    if found:
        detail = f"not a usable JSON Schema: {found[0].pointer or 'the schema'}: {found[0].detail}"
        raise ValidationFailed(detail, errors=tuple(found))
    # A `$schema` of another draft would make the validator change its class at every `$ref: "#"`.
    plain = {key: value for key, value in explicit(schema).items() if key not in ("$schema", "$id")}
    validator = _Validator(
        plain, format_checker=_formats(), registry=Registry()
    )  # an empty one never fetches
    return Contract(schema, validator, _acceptance(plain), filler(plain))


def _formats() -> FormatChecker:
    checker = FormatChecker()
    checker.checkers = dict(FORMATS)
    return checker


def _acceptance(schema: Schema) -> Accept | None:
    try:
        return Acceptance(schema, lambda target: resolved(schema, target)).accept
    except NotCovered:
        return None


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
    if wanted and isinstance(value, list) and repeats(value):
        yield ValidationError("uniqueItems")


_Validator = cast(Any, extend)(  # untyped in the stubs
    Draft202012Validator,
    {"pattern": _pattern, "patternProperties": _pattern_properties, "uniqueItems": _unique_items},
)
