"""The functions of the dialect: a table of name, types, and what each is for.

The first half is JMESPath's own list with the meaning its specification gives (where the Python library would
fail on mixed types, these answer or refuse). The documentation's function table is generated from here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from engine.expressions import dates, texts
from engine.expressions.values import (
    MAX_ITEMS,
    MAX_TEXT_RESULT,
    Meter,
    Reference,
    Refused,
    check_size,
    check_text,
    compact_json,
    equal,
    type_of,
)

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,299})(?:\.\d+)?(?:[eE][+-]?\d{1,4})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Function:
    """One function. A parameter is a set of type names, "" any; `array-number` is a list of numbers only.

    `optional` counts the parameters at the end that may be left out; with `variadic` the last one repeats.
    `grows` says whether the result holds all arguments at once (a bound on the size of results uses it).
    `metered` ones are handed the meter: they look deeper into their arguments than once through.
    """

    name: str
    call: Callable[..., Any]
    parameters: tuple[str, ...]
    returns: str
    summary: str
    optional: int = 0
    variadic: bool = False
    grows: bool = True
    metered: bool = False

    @property
    def signature(self) -> str:
        """As the documentation shows it: `replace(string, string, string)`."""
        shown = [p or "any" for p in self.parameters]
        shown[len(shown) - self.optional :] = [f"{p}?" for p in shown[len(shown) - self.optional :]]
        return f"{self.name}({', '.join(shown)}{', …' if self.variadic else ''})"

    def arity_fault(self, count: int) -> str | None:
        """What is wrong with `count` arguments, or None."""
        most = len(self.parameters)
        least = most - self.optional
        if count >= least and (self.variadic or count <= most):
            return None
        return f"{self.signature} was given {count} argument{'' if count == 1 else 's'}"


def parameter_accepts(parameter: str, value: Any) -> bool:
    """Whether `value` is of one of the types that `parameter` names ("array-number|array-string")."""
    if not parameter:
        return True
    found = type_of(value)
    for allowed in parameter.split("|"):
        outer, _, inner = allowed.partition("-")
        if outer == found and (not inner or all(type_of(item) == inner for item in value)):
            return True
    return False


@cache
def table() -> Mapping[str, Function]:
    """Every function by name."""
    return {function.name: function for function in (*_standard(), *_dialect())}


def _standard() -> tuple[Function, ...]:
    ordered = "array-number|array-string"
    return (
        Function("abs", abs, ("number",), "number", "The number without its sign."),
        Function("avg", _avg, ("array-number",), "number|null", "The average; null for an empty list."),
        Function("ceil", math.ceil, ("number",), "number", "The next whole number above."),
        Function("contains", _contains, ("array|string", ""), "boolean",
                 "Whether a list holds a value, a text a text.", metered=True),
        Function("ends_with", str.endswith, ("string", "string"), "boolean", "Whether a text ends with another."),
        Function("floor", math.floor, ("number",), "number", "The next whole number below."),
        Function("join", _join, ("string", "array-string"), "string", "The texts of a list, separated."),
        Function("keys", list, ("object",), "array", "The keys of an object."),
        Function("length", len, ("string|array|object",), "number", "Characters, elements or keys."),
        Function("map", _map, ("expression", "array"), "array", "The expression's result for every element."),
        Function("max", _max, (ordered,), "number|string|null", "The largest; null for an empty list."),
        Function("max_by", _max_by, ("array", "expression"), "", "The element whose expression is largest."),
        Function("merge", _merge, ("object",), "object", "One object; later keys win.", variadic=True),
        Function("min", _min, (ordered,), "number|string|null", "The smallest; null for an empty list."),
        Function("min_by", _min_by, ("array", "expression"), "", "The element whose expression is smallest."),
        Function("not_null", _not_null, ("",), "", "The first that is not null.", variadic=True, grows=False),
        Function("reverse", _reverse, ("string|array",), "string|array", "The text or list backwards."),
        Function("sort", sorted, (ordered,), "array", "The list in rising order."),
        Function("sort_by", _sort_by, ("array", "expression"), "array", "The list in rising order of the expression."),
        Function("starts_with", str.startswith, ("string", "string"), "boolean", "Whether a text starts with another."),
        Function("sum", sum, ("array-number",), "number", "The sum; 0 for an empty list."),
        Function("to_array", _to_array, ("",), "array", "A list as it is, anything else as a list of one."),
        Function("to_number", _to_number, ("",), "number|null",
                 "The number that a text names; null when it names none."),
        Function("to_string", _to_string, ("",), "string",
                 "A text as it is, anything else as compact JSON.", metered=True),
        Function("type", type_of, ("",), "string", "The type's name."),
        Function("values", _values, ("object",), "array", "The values of an object."),
    )  # fmt: skip


def _dialect() -> tuple[Function, ...]:
    return (
        Function("b64", texts.b64, ("string",), "string", "The text's UTF-8 bytes in Base64."),
        Function("date_add", dates.date_add, ("string", "string|number"), "string",
                 "A time moved by a duration (\"24h\", \"-1d12h\") or by seconds."),
        Function("date_format", dates.date_format, ("string", "string", "string"), "string",
                 "A time written by a strftime pattern, in a time zone (UTC without one).", optional=1),
        Function("default", _not_null, ("", ""), "", "The value, or the second when it is null.", grows=False),
        Function("from_json", texts.from_json, ("string",), "", "The value that a JSON text holds.", metered=True),
        Function("hash", texts.digest, ("", "string"), "string",
                 "The hex digest (sha256, or sha512, sha1, md5) of a text or of compact JSON.", optional=1,
                 metered=True),
        Function("lower", texts.lower, ("string",), "string", "The text in lower case."),
        Function("replace", texts.replace, ("string", "string", "string"), "string", "Every occurrence replaced."),
        Function("split", texts.split, ("string", "string"), "array", "The parts of a text between separators."),
        Function("upper", texts.upper, ("string",), "string", "The text in upper case."),
        Function("uuid5", texts.uuid5, ("string", "string"), "string",
                 "The UUID of a name in a namespace (dns, url, oid, x500 or a UUID): the same every time."),
    )  # fmt: skip


def _avg(numbers: list[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None


def _contains(subject: Any, search: Any, *, meter: Meter) -> bool:
    if isinstance(subject, str):
        return isinstance(search, str) and search in subject
    return any(equal(item, search, meter) for item in subject)


def _join(separator: str, parts: list[str]) -> str:
    if sum(map(len, parts)) + len(separator) * len(parts) > MAX_TEXT_RESULT:
        raise Refused(f"join() would make a text of more than {MAX_TEXT_RESULT} characters")
    return separator.join(parts)


def _map(reference: Reference, items: list[Any]) -> list[Any]:
    return reference.over(items)


def _max(items: list[Any]) -> Any:
    return max(items, default=None)


def _min(items: list[Any]) -> Any:
    return min(items, default=None)


def _keys_of(name: str, items: list[Any], reference: Reference) -> list[Any]:
    """The expression's results: all numbers or all strings, since nothing else has an order."""
    keys = reference.over(items)
    found = {type_of(key) for key in keys}
    if len(found) > 1 or not found <= {"number", "string"}:
        raise Refused(f"{name}() needs numbers only or texts only, the expression gave {_listed(found)}")
    return keys


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _max_by(items: list[Any], reference: Reference) -> Any:
    keys = _keys_of("max_by", items, reference)
    return items[max(range(len(keys)), key=keys.__getitem__)] if keys else None


def _min_by(items: list[Any], reference: Reference) -> Any:
    keys = _keys_of("min_by", items, reference)
    return items[min(range(len(keys)), key=keys.__getitem__)] if keys else None


def _sort_by(items: list[Any], reference: Reference) -> list[Any]:
    keys = _keys_of("sort_by", items, reference)
    return [items[i] for i in sorted(range(len(keys)), key=keys.__getitem__)]


def _merge(*objects: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for each in objects:
        merged.update(each)
    return merged


def _not_null(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _reverse(subject: str | list[Any]) -> str | list[Any]:
    return check_text(subject)[::-1] if isinstance(subject, str) else subject[::-1]


def _to_array(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _to_number(value: Any) -> int | float | None:
    """Only JSON's own spelling counts: not "1_000", not "nan", not "٣"."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not _JSON_NUMBER.fullmatch(value):
        return None
    number = float(value) if set(value) & set(".eE") else int(value)
    return number if math.isfinite(number) else None


def _to_string(value: Any, *, meter: Meter) -> str:
    if isinstance(value, str):
        return value
    check_size(value, meter)
    return compact_json(value)


def _values(subject: Mapping[str, Any]) -> list[Any]:
    return list(subject.values())


def bounded(name: str, result: Any) -> Any:
    """`result`, unless it is more than a function may make or no JSON value."""
    if isinstance(result, str):
        if len(result) > MAX_TEXT_RESULT:
            raise Refused(f"{name}() would make a text of more than {MAX_TEXT_RESULT} characters")
    elif isinstance(result, float):
        if not math.isfinite(result):
            raise Refused(f"{name}() has no finite result")
    elif isinstance(result, list) and len(result) > MAX_ITEMS:
        raise Refused(f"{name}() would make a list of more than {MAX_ITEMS} elements")
    return result
