"""What can be told of an expression without evaluating it: what it reads, how far it can grow, its traps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.expressions.functions import table
from engine.expressions.lexer import SyntaxFault
from engine.expressions.parser import Node

Path = tuple[str, ...]
"""Keys from the root; "*" stands for any element of a list or object, and ends nothing."""

MAX_GROWTH = 1_000
"""How many copies of its input an expression may hold: `[@, @] | [@, @] | …` doubles with every pipe."""


@dataclass(slots=True)
class Findings:
    """Everything found in one walk of the tree."""

    paths: set[Path] = field(default_factory=set)
    traps: list[tuple[str, int]] = field(default_factory=list)


def analyse(node: Node) -> Findings:
    """The paths that `node` reads from the root, and the constructs that rarely mean what they say."""
    findings = Findings()
    end = _walk(node, (), findings)
    if end is not None:
        findings.paths.add(end)
    return findings


def _walk(node: Node, scope: Path | None, findings: Findings) -> Path | None:
    """Record what `node` reads where `@` is the value at `scope` (None: no longer a place in the input).

    Returns the place of the result, not yet recorded: only its reader knows how far the path goes on.
    """
    kind = node["type"]
    if kind in ("field", "index"):
        step = node["value"] if kind == "field" else "*"
        return None if scope is None else (*scope, step)
    if kind in ("current", "identity", "slice"):
        return scope
    if kind in ("subexpression", "index_expression", "pipe"):
        return _walk_chain(node, scope, findings)
    if kind in ("projection", "value_projection", "filter_projection", "flatten"):
        return _walk_projection(node, scope, findings)
    for child in node["children"]:
        _record(child, _scope_of(kind, scope), findings)
    return None


def _scope_of(kind: str, scope: Path | None) -> Path | None:
    return None if kind == "expref" else scope  # it is applied to elements that only its function knows


def _record(node: Node, scope: Path | None, findings: Findings) -> None:
    end = _walk(node, scope, findings)
    if end is not None:
        findings.paths.add(end)


def _walk_chain(node: Node, scope: Path | None, findings: Findings) -> Path | None:
    first = node["children"][0]
    if node["type"] != "pipe" and first["type"] == "not_expression":
        findings.traps.append(("'!a.b' means '(!a).b': write '!(a.b)'", first["start"] + 1))
    for position, child in enumerate(node["children"]):
        if position and scope is None:
            break  # what follows reads a value the expression made itself
        scope = _walk(child, scope, findings)
    return scope


def _walk_projection(node: Node, scope: Path | None, findings: Findings) -> Path | None:
    base, *rest = node["children"]
    scope = _walk(base, scope, findings)
    if not rest:
        return scope  # flatten: the projection around it adds the element
    inside = None if scope is None else (*scope, "*")
    if len(rest) == 2:
        _record(rest[1], inside, findings)
    return _walk(rest[0], inside, findings)


def growth(node: Node) -> int:
    """How many copies of its input the result of `node` can hold at most.

    Without this bound a text of 8,000 characters could ask for 2^1000 values; with it, and the sizes that
    functions check themselves, work is bounded by the expression's length times the size of the data.
    Raises SyntaxFault above MAX_GROWTH.
    """
    below = [(child["type"] != "literal", growth(child)) for child in _children(node)]
    found = _combined(node, below)
    if found > MAX_GROWTH:
        raise SyntaxFault(
            f"the expression could make over {MAX_GROWTH} copies of its input", node.get("start", 0)
        )
    return found


def _children(node: Node) -> Iterator[Node]:
    return (child for child in node["children"] if isinstance(child, dict))  # a slice's children are numbers


def _combined(node: Node, below: list[tuple[bool, int]]) -> int:
    """From the growth of the children and whether they take from the input at all."""
    kind, factors = node["type"], [factor for _, factor in below]
    taken = sum(factor for takes, factor in below if takes)
    if kind in ("comparator", "not_expression", "or_expression", "and_expression"):
        return max(factors)
    if kind in ("multi_select_list", "multi_select_dict"):
        return max(1, taken)
    if kind == "function_expression" and not _multiplies(node):
        return max(1, taken) if table()[node["value"]].grows else max(factors, default=1)
    return math.prod(factors)


def _multiplies(node: Node) -> bool:
    return any(child["type"] == "expref" for child in node["children"])
