"""Query parameters: text to typed values by each parameter's schema; what is unknown or wrong is a 400."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from starlette.datastructures import QueryParams

from api.operations import Parameter
from engine.contract import Contract, compile_schema
from engine.errors import Malformed, Problem

_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def contract_of(known: Sequence[Parameter]) -> Contract:
    """The contract of a query string, its parameters as the members of one object."""
    return compile_schema({"type": "object", "properties": {each.name: each.schema for each in known}})


def parse(given: QueryParams, known: Sequence[Parameter], contract: Contract) -> dict[str, Any]:
    """Every known parameter by name: its value, its default, or None. Raises Malformed with all faults."""
    names = [parameter.name for parameter in known]
    problems = [_unknown(name, names) for name in given if name not in names]
    plain: dict[str, Any] = {}
    for parameter in known:
        texts = given.getlist(parameter.name)
        try:
            if texts:
                plain[parameter.name] = _plain(texts, parameter.schema)
        except ValueError as error:
            problems.append(Problem("bad_parameter", str(error), f"/{parameter.name}"))
    problems += contract.check(plain)
    if problems:
        raise _malformed(problems)
    filled = contract.with_defaults(plain)
    return {each.name: _typed(filled.get(each.name), each.schema) for each in known}


def _plain(texts: Sequence[str], schema: Mapping[str, Any]) -> Any:
    """The JSON value that the text stands for."""
    if len(texts) > 1:
        raise ValueError("is given more than once")
    if "\x00" in texts[0]:
        raise ValueError("holds the character U+0000")
    convert = _CONVERTERS.get(str(schema.get("format", schema["type"])))
    return convert(texts[0]) if convert else texts[0]


def _integer(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 18):
        raise ValueError("is not an integer")
    return int(text)


def _boolean(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError("is neither true nor false")
    return _FLAGS[text.lower()]


def _instant(text: str) -> str:
    try:
        instant = datetime.fromisoformat(text.replace(" ", "+"))  # an offset's unescaped + arrives as a space
    except ValueError:
        raise ValueError("is not a date-time such as 2026-12-01T09:00:00Z") from None
    if instant.tzinfo is None:
        raise ValueError("has no offset: write it like 2026-12-01T09:00:00Z")
    return instant.isoformat()


_CONVERTERS: Mapping[str, Callable[[str], Any]] = {
    "integer": _integer,
    "boolean": _boolean,
    "date-time": _instant,
}


def _typed(value: Any, schema: Mapping[str, Any]) -> Any:
    if value is None:
        return None
    kinds: Mapping[Any, Callable[[str], Any]] = {"date-time": datetime.fromisoformat, "uuid": UUID}
    kind = kinds.get(schema.get("format"))
    return kind(value) if kind else value


def _unknown(name: str, known: Sequence[str]) -> Problem:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known) or 'none'}"
    shown = name if name.isidentifier() and len(name) <= 60 else "it"
    return Problem("unknown_parameter", f"{shown} is not a query parameter of this path{hint}")


def _malformed(problems: Sequence[Problem]) -> Malformed:
    named = [f"{each.pointer.removeprefix('/')} {each.detail}".strip() for each in problems]
    return Malformed("; ".join(named), errors=problems)
