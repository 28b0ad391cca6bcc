"""What a broken schema says to a person: place, rule and limit, and never the offending value.

Values may be personal data or secrets and problems are stored and answered; so a problem names the type that
came instead of the value that came. Names of keys are shown when the caller owns them (definitions) or when
they look like names.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jsonschema.exceptions import ValidationError

from engine.contract.acceptance import matcher
from engine.errors import Problem

_SHOWN = 5  # keys of an object that a message names
_PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z_$.-]{0,60}\d{0,4}", re.ASCII)

_CODES = {
    "type": "wrong_type", "required": "missing", "dependentRequired": "missing",
    "additionalProperties": "unknown_key", "unevaluatedProperties": "unknown_key",
    "enum": "not_allowed", "const": "not_allowed", "not": "not_allowed", "propertyNames": "wrong_form",
    "pattern": "wrong_form", "format": "wrong_form", "oneOf": "one_of", "anyOf": "any_of",
    "minLength": "wrong_length", "maxLength": "wrong_length", "minItems": "wrong_length",
    "maxItems": "wrong_length", "minProperties": "wrong_length", "maxProperties": "wrong_length",
    "minimum": "out_of_range", "maximum": "out_of_range", "exclusiveMinimum": "out_of_range",
    "exclusiveMaximum": "out_of_range", "multipleOf": "out_of_range", "uniqueItems": "repeated",
}  # fmt: skip

_LIMITS: Mapping[str, Callable[[Any], str]] = {
    "minimum": lambda limit: f"must be at least {limit}",
    "maximum": lambda limit: f"must be at most {limit}",
    "exclusiveMinimum": lambda limit: f"must be more than {limit}",
    "exclusiveMaximum": lambda limit: f"must be less than {limit}",
    "multipleOf": lambda limit: f"must be a multiple of {limit}",
    "minLength": lambda limit: f"must have at least {_count(limit, 'character')}",
    "maxLength": lambda limit: f"must have at most {_count(limit, 'character')}",
    "minItems": lambda limit: f"must have at least {_count(limit, 'element')}",
    "maxItems": lambda limit: f"must have at most {_count(limit, 'element')}",
    "minProperties": lambda limit: f"must have at least {_count(limit, 'key')}",
    "maxProperties": lambda limit: f"must have at most {_count(limit, 'key')}",
    "pattern": lambda limit: f"must match the pattern {limit}",
    "format": lambda limit: f"is not a valid {limit}",
    "const": lambda limit: f"must be {_literal(limit)}",
    "uniqueItems": lambda _: "holds the same element twice",
    "contains": lambda _: "holds no element of the kind that is needed",
    "not": lambda _: "is not allowed in this form",
    "oneOf": lambda _: "must fit exactly one of the allowed forms",
    "anyOf": lambda _: "fits none of the allowed forms",
}


def problems(errors: Iterable[ValidationError], show_keys: bool) -> list[Problem]:
    """One problem for each thing that is wrong, in the order of the document; repetitions are dropped."""
    found = [problem for error in errors for problem in _problems_of(error, show_keys)]
    return list(dict.fromkeys(found))


def pointer_of(path: Iterable[str | int], show_keys: bool = True) -> str:
    """RFC 6901 pointer; keys that are not shown become "…"."""
    return "".join(f"/{_token(part, show_keys)}" for part in path)


def closest(name: Any, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the closest known name, or nothing."""
    names = [item for item in known if isinstance(item, str)]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    if not close and isinstance(name, str):
        close = [item for item in names if item.lower() == name.lower()]
    return f"; did you mean '{close[0]}'?" if close else ""


def json_type(value: Any) -> str:
    """JSON Schema's name for the type of `value`."""
    if isinstance(value, bool):
        return "boolean"
    names = {dict: "object", list: "array", str: "string", int: "integer", float: "number"}
    return names.get(type(value), "null" if value is None else "unknown")


def _problems_of(error: ValidationError, show_keys: bool) -> Iterator[Problem]:
    own = error.schema.get("errorMessage") if isinstance(error.schema, Mapping) else None
    inner = None if own else _inner(error)
    if inner is not None:
        for each in inner:
            yield from _problems_of(each, show_keys)
        return
    code = _CODES.get(str(error.validator), "not_allowed")
    for key, detail in _details(error, show_keys):
        path = [*error.absolute_path, *([] if key is None else [key])]
        said = f"{own}{_found(error, show_keys)}" if own and key is None else detail
        yield Problem(code, said, pointer_of(path, show_keys))


def _inner(error: ValidationError) -> list[ValidationError] | None:
    """The errors of the one form the value was meant to have, when that can be told: its type fits."""
    if error.validator not in ("anyOf", "oneOf") or not error.context:
        return None
    branches: dict[Any, list[ValidationError]] = {}
    for each in error.context:
        branches.setdefault(each.schema_path[0], []).append(each)
    meant = [found for found in branches.values() if not any(_wrong_kind(each) for each in found)]
    return meant[0] if len(meant) == 1 else None


def _wrong_kind(error: ValidationError) -> bool:
    if error.path or error.validator not in ("type", "const", "enum"):
        return False
    limit: Any = error.validator_value
    allowed = [limit] if error.validator == "const" else limit
    return error.validator == "type" or json_type(error.instance) not in map(json_type, allowed)


def _choices(error: ValidationError) -> list[str]:
    """The keys of which a oneOf or anyOf asks for one, when that is all that its forms ask."""
    if error.validator not in ("oneOf", "anyOf") or json_type(error.instance) != "object":
        return []
    limit: Any = error.validator_value
    forms = [form for form in limit if isinstance(form, Mapping) and form.keys() == {"required"}]
    return [name for form in forms for name in form["required"]] if len(forms) == len(limit) else []


def _found(error: ValidationError, show_keys: bool) -> str:
    """What came where one of several forms was needed: the keys in question, else the type."""
    if error.validator not in ("oneOf", "anyOf"):
        return ""
    value: Any = error.instance
    kind, names = json_type(value), _choices(error)
    if names:
        return f" (found {', '.join(key for key in value if key in names) or 'none'})"
    if kind == "object" and show_keys and value:
        return f" (found {', '.join(list(value)[:_SHOWN])})"
    return f" (found {kind})"


def _choice(error: ValidationError, show_keys: bool) -> str:
    count = "exactly" if error.validator == "oneOf" else "at least"
    return f"give {count} one of {', '.join(_choices(error))}{_found(error, show_keys)}"


def _details(error: ValidationError, show_keys: bool) -> list[tuple[str | None, str]]:
    """Pairs of a key below the place (None: the place itself) and what is wrong."""
    keyword, value = str(error.validator), error.instance
    limit: Any = error.validator_value
    if keyword == "type":
        return [(None, f"must be {_types(limit)}, not {json_type(value)}")]
    if keyword == "required":
        return [(None, f"'{name}' is missing") for name in limit if name not in _keys(value)]
    if keyword in ("additionalProperties", "unevaluatedProperties"):
        return _unknown_keys(error, show_keys)
    if keyword == "enum":
        hint = closest(value, limit) if isinstance(value, str) else ""
        return [(None, f"must be one of {', '.join(map(_literal, limit))}{hint}")]
    if keyword == "anyOf" and (types := _branch_types(error)):
        return [(None, f"must be {_types(types)}, not {json_type(value)}")]
    if _choices(error):
        return [(None, _choice(error, show_keys))]
    wording = _LIMITS.get(keyword)
    return [(None, wording(limit) if wording else f"breaks the rule {keyword!r} of its schema")]


def _branch_types(error: ValidationError) -> list[str]:
    """The types of the forms, when the value has the type of none."""
    if not error.context or any(each.validator != "type" or each.path for each in error.context):
        return []
    wanted: list[Any] = [each.validator_value for each in error.context]
    return [name for names in wanted for name in ([names] if isinstance(names, str) else names)]


def _unknown_keys(error: ValidationError, show_keys: bool) -> list[tuple[str | None, str]]:
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    known = schema.get("properties", {})
    patterns = [matcher(pattern) for pattern in schema.get("patternProperties", {})]
    extra = [
        key
        for key in _keys(error.instance)
        if key not in known and not any(matches(key) for matches in patterns)
    ]
    return [_unknown_key(key, known, show_keys) for key in extra] or [(None, "holds a key that is not known")]


def _keys(value: Any) -> list[str]:
    return list(value)


def _unknown_key(key: str, known: Iterable[str], show_keys: bool) -> tuple[str | None, str]:
    if not show_keys and not _PLAIN_KEY.fullmatch(key):
        return None, "holds a key that is not known"
    hint = closest(key, known)
    if not hint and 0 < len(list(known)) <= 12:
        hint = f"; known are {', '.join(known)}"
    return key, f"unknown key '{key[:80]}'{hint}"


def _types(wanted: Any) -> str:
    names = [wanted] if isinstance(wanted, str) else list(dict.fromkeys(wanted))
    return " or ".join(names)


def _literal(value: Any) -> str:
    """A value of the schema's, not of the data's."""
    return f"'{value}'" if isinstance(value, str) else json.dumps(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _token(part: str | int, show_keys: bool) -> str:
    text = str(part)
    if isinstance(part, str) and not show_keys and not _PLAIN_KEY.fullmatch(text):
        return "…"
    return text.replace("~", "~0").replace("/", "~1")
