"""The types that an expression's result can have, as far as its text tells: for warnings before anything runs."""

from __future__ import annotations

from collections.abc import Mapping

from engine.expressions.functions import table
from engine.expressions.parser import Node
from engine.expressions.values import type_of

ANY = frozenset({"array", "boolean", "null", "number", "object", "string"})
"""What nobody can tell."""

_OF: Mapping[str, frozenset[str]] = {
    "number": frozenset({"number"}),
    "offset": frozenset({"string"}),
    "not_expression": frozenset({"boolean"}),
    "slice": frozenset({"array", "null"}),
    "flatten": frozenset({"array", "null"}),
    "projection": frozenset({"array", "null"}),
    "value_projection": frozenset({"array", "null"}),
    "filter_projection": frozenset({"array", "null"}),
    "multi_select_list": frozenset({"array", "null"}),
    "multi_select_dict": frozenset({"object", "null"}),
}


def kinds(node: Node) -> frozenset[str]:
    """JMESPath's names of the types that the value of `node` can have."""
    kind = node["type"]
    if kind in _OF:
        return _OF[kind]
    if kind == "literal":
        return frozenset({type_of(node["value"])})
    if kind == "comparator":  # values without an order compare to null
        return frozenset({"boolean"} if node["value"] in ("eq", "ne") else {"boolean", "null"})
    if kind in ("or_expression", "and_expression"):
        return frozenset().union(*map(kinds, node["children"]))
    if kind in ("subexpression", "index_expression", "pipe"):
        return kinds(node["children"][-1]) | ({"null"} if kind == "subexpression" else set())
    if kind == "function_expression":
        returns = table()[node["value"]].returns
        return frozenset(returns.split("|")) if returns else ANY
    return ANY
