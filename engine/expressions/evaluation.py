"""From a parsed tree to one Python function: every decision that the text allows is taken once.

Each builder turns a node into a closure over its children's closures, so an evaluation neither visits a tree
nor looks anything up by name. The meaning is JMESPath's; types that have no order compare to null. Whatever
loops pays for its rounds in steps before it begins (`Meter`), so that no expression can hang a worker.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Mapping
from typing import Any

from engine.expressions.dates import moved
from engine.expressions.functions import Function, bounded, parameter_accepts, table
from engine.expressions.lexer import SyntaxFault
from engine.expressions.parser import Node
from engine.expressions.values import (
    MAX_ITEMS,
    Meter,
    Reference,
    Refused,
    copied,
    equal,
    is_true,
    size_of,
    type_of,
)

Evaluate = Callable[[Any, Meter], Any]
"""From the value at `@` to the result, paying on the meter."""

_MAX_DEPTH = 120  # of the tree: `a || b || c …` nests without brackets


def build(node: Node, depth: int = 0) -> Evaluate:
    """The function that evaluates `node`. Raises SyntaxFault for what parses and yet means nothing."""
    if depth > _MAX_DEPTH:
        raise SyntaxFault(
            "the expression is too long: give parts of it to core.transform", node.get("start", 0)
        )
    builder = _BUILDERS.get(node["type"])
    if builder is None:
        raise SyntaxFault(_MISPLACED[node["type"]], node.get("start", 0))
    return builder(node, depth + 1)


_MISPLACED = {
    "number": "a bare number stands in comparisons, after || and &&, and as an argument; elsewhere write it "
    "in backticks, or [n] for an element",
    "expref": "&expression is an argument of map, sort_by, min_by and max_by only",
}


def _operand(node: Node, depth: int) -> Evaluate:
    return _literal(node, depth) if node["type"] == "number" else build(node, depth)


def _literal(node: Node, _depth: int) -> Evaluate:
    value = node["value"]
    if isinstance(value, list | dict):
        if _levels(value) > _MAX_DEPTH:  # how deep json itself goes differs from one Python to the next
            raise SyntaxFault("the literal is nested too deeply", node.get("start", 0))
        return lambda _, __: copied(value)  # results belong to one run; the literal belongs to all
    return lambda _, __: value


def _levels(value: Any) -> int:
    """How deeply a JSON value nests, without recursion; counting stops beyond the limit."""
    level, within = 0, [value]
    while within and level <= _MAX_DEPTH:
        level += 1
        members = (one.values() if isinstance(one, dict) else one for one in within)
        within = [each for group in members for each in group if isinstance(each, list | dict)]
    return level


def _field(node: Node, _depth: int) -> Evaluate:
    return _path([node["value"]])


def _path(names: list[str]) -> Evaluate:
    def read(value: Any, _: Meter) -> Any:
        for name in names:
            if type(value) is dict or isinstance(value, Mapping):
                value = value.get(name)
            else:
                return None
        return value

    return read


def _chain(node: Node, depth: int) -> Evaluate:
    """`a.b.c`, `a[0]` and `a | b`: each part reads what the one before it gave."""
    children = node["children"]
    if all(child["type"] == "field" for child in children):
        return _path([child["value"] for child in children])
    parts = [build(child, depth) for child in children]

    def run(value: Any, meter: Meter) -> Any:
        for part in parts:
            value = part(value, meter)
        return value

    return run


def _index(node: Node, _depth: int) -> Evaluate:
    position = node["value"]

    def element(value: Any, _: Meter) -> Any:
        if not isinstance(value, list) or not -len(value) <= position < len(value):
            return None
        return value[position]

    return element


def _slice(node: Node, _depth: int) -> Evaluate:
    if node["children"][2] == 0:
        raise SyntaxFault("the step of a slice is not 0", 0)
    cut = slice(*node["children"])

    def run(value: Any, meter: Meter) -> Any:
        if not isinstance(value, list):
            return None
        meter.spend(len(value))
        return value[cut]

    return run


def _identity(_node: Node, _depth: int) -> Evaluate:
    return lambda value, _: value


def _projection(node: Node, depth: int) -> Evaluate:
    base, each = (build(child, depth) for child in node["children"])
    price = _price(node["children"][1])

    def run(value: Any, meter: Meter) -> Any:
        items = base(value, meter)
        if not isinstance(items, list):
            return None
        meter.spend(len(items) * price)
        return _present(each(item, meter) for item in items)

    return run


def _value_projection(node: Node, depth: int) -> Evaluate:
    base, each = (build(child, depth) for child in node["children"])
    price = _price(node["children"][1])

    def run(value: Any, meter: Meter) -> Any:
        items = base(value, meter)
        if not isinstance(items, Mapping):
            return None
        meter.spend(len(items) * price)
        return _present(each(item, meter) for item in items.values())

    return run


def _filter_projection(node: Node, depth: int) -> Evaluate:
    base, each, condition = (build(child, depth) for child in node["children"])
    price = _price(node["children"][1]) + _price(node["children"][2])

    def run(value: Any, meter: Meter) -> Any:
        items = base(value, meter)
        if not isinstance(items, list):
            return None
        meter.spend(len(items) * price)
        return _present(each(item, meter) for item in items if is_true(condition(item, meter)))

    return run


def _price(node: Node) -> int:
    """Steps of one evaluation of `node`: one for each of its parts, and for each value of its literals."""
    if node["type"] == "literal":
        return size_of(node["value"])
    return 1 + sum(_price(child) for child in node["children"] if isinstance(child, dict))


def _present(results: Any) -> list[Any]:
    return [result for result in results if result is not None]


def _flatten(node: Node, depth: int) -> Evaluate:
    base = build(node["children"][0], depth)

    def run(value: Any, meter: Meter) -> Any:
        items = base(value, meter)
        if not isinstance(items, list):
            return None
        merged: list[Any] = []
        meter.spend(len(items))
        for item in items:
            merged.extend(item) if isinstance(item, list) else merged.append(item)
            if len(merged) > MAX_ITEMS:
                raise Refused(f"[] would make a list of more than {MAX_ITEMS} elements")
        meter.spend(len(merged))
        return merged

    return run


def _multi_select_list(node: Node, depth: int) -> Evaluate:
    parts = [build(child, depth) for child in node["children"]]
    return lambda value, meter: None if value is None else [part(value, meter) for part in parts]


def _multi_select_dict(node: Node, depth: int) -> Evaluate:
    pairs = [(child["value"], build(child["children"][0], depth)) for child in node["children"]]

    def run(value: Any, meter: Meter) -> Any:
        return None if value is None else {key: part(value, meter) for key, part in pairs}

    return run


def _or(node: Node, depth: int) -> Evaluate:
    left, right = (_operand(child, depth) for child in node["children"])

    def run(value: Any, meter: Meter) -> Any:
        found = left(value, meter)
        return found if is_true(found) else right(value, meter)

    return run


def _and(node: Node, depth: int) -> Evaluate:
    left, right = (_operand(child, depth) for child in node["children"])

    def run(value: Any, meter: Meter) -> Any:
        found = left(value, meter)
        return right(value, meter) if is_true(found) else found

    return run


def _not(node: Node, depth: int) -> Evaluate:
    inner = build(node["children"][0], depth)
    return lambda value, meter: not is_true(inner(value, meter))


_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt, "lte": operator.le, "gt": operator.gt, "gte": operator.ge,
}  # fmt: skip


def _comparator(node: Node, depth: int) -> Evaluate:
    left, right = (_operand(child, depth) for child in node["children"])
    name = node["value"]
    if name == "eq":
        return lambda value, meter: equal(left(value, meter), right(value, meter), meter)
    if name == "ne":
        return lambda value, meter: not equal(left(value, meter), right(value, meter), meter)
    return _ordering(left, right, _ORDER[name])


def _ordering(left: Evaluate, right: Evaluate, compare: Callable[[Any, Any], bool]) -> Evaluate:
    def run(value: Any, meter: Meter) -> Any:
        first, second = left(value, meter), right(value, meter)
        kind = type_of(first)
        if kind not in ("number", "string") or type_of(second) != kind:
            return None
        return compare(first, second)

    return run


def _offset(node: Node, depth: int) -> Evaluate:
    time, delta = build(node["children"][0], depth), node["value"]
    return lambda value, meter: moved(time(value, meter), delta)


def _function(node: Node, depth: int) -> Evaluate:
    function = _known(node)
    fault = function.arity_fault(len(node["children"]))
    if fault:
        raise SyntaxFault(fault, node["start"])
    parameters = list(function.parameters[: len(node["children"])])
    parameters += parameters[-1:] * (len(node["children"]) - len(parameters))
    arguments = [
        _argument(function, parameter, child, depth)
        for parameter, child in zip(parameters, node["children"], strict=True)
    ]
    return _call(function, list(zip(arguments, parameters, strict=True)))


def _known(node: Node) -> Function:
    name = node["value"]
    function = table().get(name)
    if function is None:
        close = difflib.get_close_matches(name, table(), n=1)
        hint = f"; did you mean {close[0]}()?" if close else ""
        raise SyntaxFault(f"there is no function {name}(){hint}", node["start"])
    return function


def _argument(function: Function, parameter: str, node: Node, depth: int) -> Evaluate:
    if (parameter == "expression") != (node["type"] == "expref"):
        wanted = "an &expression" if parameter == "expression" else f"a value ({parameter or 'any'})"
        raise SyntaxFault(f"{function.signature} needs {wanted} here", node.get("start", 0))
    if node["type"] == "expref":
        apply, price = build(node["children"][0], depth), _price(node)
        return lambda _, meter: Reference(apply, price, meter)
    return _operand(node, depth)


def _call(function: Function, arguments: list[tuple[Evaluate, str]]) -> Evaluate:
    call, name, metered = function.call, function.name, function.metered

    def run(value: Any, meter: Meter) -> Any:
        given = []
        for position, (argument, parameter) in enumerate(arguments, 1):
            item = argument(value, meter)
            meter.spend_on(item)
            if not parameter_accepts(parameter, item):
                wanted = parameter.replace("|", " or ")
                raise Refused(f"{name}() needs {wanted} as argument {position}, got {type_of(item)}")
            given.append(item)
        try:
            result = call(*given, meter=meter) if metered else call(*given)
        except (ArithmeticError, ValueError, RecursionError) as error:
            raise Refused(f"{name}() has no result here") from error
        meter.spend_on(result)
        return bounded(name, result)

    return run


_BUILDERS: Mapping[str, Callable[[Node, int], Evaluate]] = {
    "literal": _literal,
    "field": _field,
    "subexpression": _chain,
    "index_expression": _chain,
    "pipe": _chain,
    "index": _index,
    "slice": _slice,
    "current": _identity,
    "identity": _identity,
    "projection": _projection,
    "value_projection": _value_projection,
    "filter_projection": _filter_projection,
    "flatten": _flatten,
    "multi_select_list": _multi_select_list,
    "multi_select_dict": _multi_select_dict,
    "or_expression": _or,
    "and_expression": _and,
    "not_expression": _not,
    "comparator": _comparator,
    "offset": _offset,
    "function_expression": _function,
}
