"""The parameters of one run, checked against what its definition says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.contract import compile_schema
from engine.errors import Problem, ValidationFailed


def run_params(name: str, document: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The definition's own parameters with `given` over them and the schema's defaults below.

    Raises ValidationFailed with every problem, its pointer below /params.
    """
    params = {**document.get("params", {}), **(given or {})}
    schema = document.get("params_schema")
    if not isinstance(schema, Mapping):
        return params
    contract = compile_schema(schema)
    filled: dict[str, Any] = contract.with_defaults(params)
    problems = [Problem(each.code, each.detail, f"/params{each.pointer}") for each in contract.check(filled)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        first = f"{problems[0].pointer}: {problems[0].detail}{more}"
        raise ValidationFailed(f"the parameters do not fit task {name!r}: {first}", errors=problems)
    return filled
