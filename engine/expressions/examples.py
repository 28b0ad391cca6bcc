"""Expressions with their results: what the reference page shows, and what a test evaluates so that it stays true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONTEXT: Mapping[str, Any] = {
    "params": {"city": "Chisinau", "limit": 3},
    "now": "2026-11-21T08:30:00Z",
    "steps": {
        "weather": {"temperature": 26.5, "unit": None},
        "orders": {"rows": [{"id": 7, "sum": 40}, {"id": 8, "sum": 15}], "tags": [["new"], ["paid", "sent"]]},
    },
    "status": {"weather": "succeeded"},
}

CONSTRUCTS: tuple[tuple[str, str, Any], ...] = (
    ("a member", "params.city", "Chisinau"),
    ("a name with other characters, in double quotes", '"params"."city"', "Chisinau"),
    ("a member that is not there", "steps.weather.wind.speed", None),
    ("an element, from the front or the end", "steps.orders.rows[-1].id", 8),
    ("a slice", "steps.orders.rows[:1]", [{"id": 7, "sum": 40}]),
    ("of every element (nulls are left out)", "steps.orders.rows[*].id", [7, 8]),
    ("of every value of an object", "steps.weather.*", [26.5]),
    ("lists within lists, flattened", "steps.orders.tags[]", ["new", "paid", "sent"]),
    ("the elements for which something holds", "steps.orders.rows[?sum > 20].id", [7]),
    ("a pipe ends a projection", "steps.orders.rows[*].id | [0]", 7),
    ("a new list", "[params.city, params.limit]", ["Chisinau", 3]),
    ("a new object", "{town: params.city}", {"town": "Chisinau"}),
    ("compare", "steps.weather.temperature >= 25", True),
    ("texts stand in single quotes", "status.weather == 'succeeded'", True),
    ("both, with 'and'", "params.limit == 3 && params.city == 'Berlin'", False),
    ("the first that is not empty, or the other", "steps.weather.unit || 'C'", "C"),
    ("not; of a path, in brackets", "!(steps.weather.unit)", True),
    ("what has no order compares to null", "params.city > 5", None),
    ("any JSON value, in backticks", '`{"a": [1, true]}`', {"a": [1, True]}),
    ("a time and an offset (s m h d w)", "now+24h", "2026-11-22T08:30:00Z"),
    ("the value before the pipe, or the element", "steps.orders.rows[*].sum | max(@)", 40),
)
"""What it shows, the expression, its result."""

FUNCTIONS: Mapping[str, tuple[str, Any]] = {
    "abs": ("abs(-5)", 5),
    "avg": ("avg(steps.orders.rows[*].sum)", 27.5),
    "b64": ("b64('hé')", "aMOp"),
    "ceil": ("ceil(steps.weather.temperature)", 27),
    "contains": ("contains('Chisinau', 'nau')", True),
    "date_add": ("date_add(now, '-1d12h')", "2026-11-19T20:30:00Z"),
    "date_format": ("date_format(now, '%d.%m.%Y %H:%M', 'Europe/Chisinau')", "21.11.2026 10:30"),
    "default": ("default(steps.weather.unit, 'C')", "C"),
    "ends_with": ("ends_with(params.city, 'nau')", True),
    "floor": ("floor(steps.weather.temperature)", 26),
    "from_json": ("from_json('[1, 2]')", [1, 2]),
    "hash": ("hash('a', 'md5')", "0cc175b9c0f1b6a831c399e269772661"),
    "join": ("join('-', ['a', 'b'])", "a-b"),
    "keys": ("keys(steps.weather)", ["temperature", "unit"]),
    "length": ("length(steps.orders.rows)", 2),
    "lower": ("lower(params.city)", "chisinau"),
    "map": ("map(&id, steps.orders.rows)", [7, 8]),
    "max": ("max(steps.orders.rows[*].sum)", 40),
    "max_by": ("max_by(steps.orders.rows, &sum).id", 7),
    "merge": ("merge(params, {limit: `5`})", {"city": "Chisinau", "limit": 5}),
    "min": ("min(steps.orders.rows[*].sum)", 15),
    "min_by": ("min_by(steps.orders.rows, &sum).id", 8),
    "not_null": ("not_null(steps.weather.unit, params.unit, 'C')", "C"),
    "replace": ("replace('a.b', '.', '/')", "a/b"),
    "reverse": ("reverse('abc')", "cba"),
    "sort": ("sort(['b', 'a'])", ["a", "b"]),
    "sort_by": ("sort_by(steps.orders.rows, &sum)[*].id", [8, 7]),
    "split": ("split('a,b', ',')", ["a", "b"]),
    "starts_with": ("starts_with(params.city, 'Chi')", True),
    "sum": ("sum(steps.orders.rows[*].sum)", 55),
    "to_array": ("to_array(params.limit)", [3]),
    "to_number": ("to_number('1.5')", 1.5),
    "to_string": ("to_string(steps.orders.tags)", '[["new"],["paid","sent"]]'),
    "type": ("type(params.limit)", "number"),
    "upper": ("upper(params.city)", "CHISINAU"),
    "uuid5": ("uuid5('dns', 'python.org')", "886313e1-3b8a-5372-9b90-0c9aee199e5d"),
    "values": ("values(params)", ["Chisinau", 3]),
}
"""For each function an expression and its result."""
