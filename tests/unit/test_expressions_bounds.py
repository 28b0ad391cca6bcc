"""No expression hangs a worker, fills its memory or reaches Python: counted in steps, refused in the error tree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from engine.errors import ValidationFailed
from engine.expressions import compile_expression
from engine.expressions.evaluation import build
from engine.expressions.examples import CONSTRUCTS, CONTEXT, FUNCTIONS
from engine.expressions.kinds import ANY
from engine.expressions.parser import parse
from engine.expressions.values import MAX_STEPS, Meter, Refused, equal, size_of
from tests.unit.test_expressions_jmespath import expressions, values

MANY = list(range(900_000))
LONG = "x" * 7_000_000
COPIES = f"[{','.join(['a'] * 900)}]"
LITERAL = f"`[{','.join(['0'] * 3900)}]`"

STEPS: list[tuple[str, Any]] = [
    (f"map(&{LITERAL}, a)", MANY),  # a literal copied for every element
    (f"a[*].{{x: {LITERAL}}}", [{}] * 900_000),
    (f"a[?{' || '.join(f'@ == `-{n}`' for n in range(1, 110))}]", MANY),
    (f"{COPIES}[*][::-1] | length(@)", MANY),
    (f"{COPIES} | map(&sort(@), @) | length(@)", list(range(100_000))),
    (f"{COPIES} | map(&hash(@), @) | length(@)", LONG),
    (f"map(&upper(@), {COPIES}) | length(@)", LONG),
    ("map(&replace(@, 'a', 'aaaaaaaaaa'), a) | length(@)", ["a" * 700_000] * 1000),
    ("map(&split(@, 'a'), a) | length(@)", ["a" * 700_000] * 1000),
]
IDS = ["literals", "hashes", "filter", "slices", "sorts", "hash", "upper", "replace", "split"]


@pytest.mark.parametrize(("text", "data"), STEPS, ids=IDS)
def test_work_is_bounded_in_steps(text: str, data: Any) -> None:
    """What would take minutes or gigabytes is refused by its count, before or soon after it begins."""
    with pytest.raises(ValidationFailed, match=f"more than {MAX_STEPS} steps"):
        compile_expression(text).evaluate({"a": data})


def test_ordinary_work_on_much_data_is_allowed() -> None:
    """The bound leaves room: hundreds of thousands of rows are filtered and sorted."""
    rows = [{"n": n} for n in range(200_000)]
    assert compile_expression("sort_by(a[?n > 5], &n) | [-1].n").evaluate({"a": rows}) == 199_999


def test_comparing_pays_for_what_it_looks_at() -> None:
    """Deep equality of values that are equal costs their size; of others only up to the difference."""
    one, other = [[0] * 100 for _ in range(50)], [[0] * 100 for _ in range(50)]
    meter = Meter(50 + 50 * 100)
    assert equal(one, other, meter)
    assert meter.left == 0
    with pytest.raises(Refused):
        equal(one, other, Meter(5049))
    assert not equal(one, [*one, 1], Meter(0))


def test_nested_projections_pay_for_each_level() -> None:
    """A projection in a projection is charged for every round of the inner one."""
    cube = [[[0] * 20 for _ in range(20)] for _ in range(20)]
    assert size_of(cube) == 1 + 20 + 20**2 + 20**3
    meter = Meter()
    build(parse("a[*][*][*]"))({"a": cube}, meter)
    assert (
        MAX_STEPS - meter.left == 20 * 5 + 20**2 * 3 + 20**3 * 1
    )  # elements times the parts that each is put through


PYTHON = [
    "__class__", "params.__class__.__mro__", "steps.__dict__", "now.__len__", "type(@).__class__",
    "keys(`[]`.__class__)",
    "'x'.upper", "params.get", "params.items", "steps.orders.rows.append",
]  # fmt: skip


@pytest.mark.parametrize("text", PYTHON)
def test_attributes_of_python_are_not_there(text: str) -> None:
    """A name is a key of the data and nothing else."""
    expression = compile_expression(text)
    try:
        found = expression.evaluate(CONTEXT)
    except ValidationFailed:
        return
    assert found is None


@pytest.mark.parametrize(
    "text", ["eval('1')", "__import__('os')", "open('x')", "getattr(a, 'b')", "now()", "random()"]
)
def test_functions_of_python_are_not_there(text: str) -> None:
    """Only the table's functions compile."""
    with pytest.raises(ValidationFailed, match="there is no function"):
        compile_expression(text)


@pytest.mark.parametrize(("text", "result"), [(text, result) for _, text, result in CONSTRUCTS])
def test_the_pages_constructs_have_the_results_it_shows(text: str, result: Any) -> None:
    """The reference page's first table."""
    assert compile_expression(text).evaluate(CONTEXT) == result


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_the_pages_functions_have_the_results_it_shows(name: str) -> None:
    """The reference page's table of functions: each example uses its function."""
    text, result = FUNCTIONS[name]
    assert f"{name}(" in text
    assert compile_expression(text).evaluate(CONTEXT) == result


KINDS = [
    ("a", ANY), ("length(a)", {"number"}), ("a > 1", {"boolean", "null"}), ("a == 1", {"boolean"}),
    ("!a", {"boolean"}), ("'x'", {"string"}), ("`5`", {"number"}), ("`[]`", {"array"}), ("a[*].b", {"array", "null"}),
    ("a[]", {"array", "null"}),
    ("a == 1 && b > 2", {"boolean", "null"}), ("length(a) || 'x'", {"number", "string"}), ("now+1h", {"string"}),
    ("{a: b}", {"object", "null"}), ("a | length(@)", {"number"}), ("a.[b]", {"array", "null"}), ("default(a, 1)", ANY),
    ("max(a)", {"number", "string", "null"}), ("a[?b] | [0]", ANY), ("`null`", {"null"}), ("a[1:]", {"array", "null"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), KINDS, ids=[text for text, _ in KINDS])
def test_the_types_a_result_can_have(text: str, expected: set[str]) -> None:
    """As far as the text tells."""
    assert compile_expression(text).kinds == expected


@given(expressions, values)
def test_no_result_has_another_type(text: str, data: Any) -> None:
    """Whatever an expression evaluates to is of a type that was foretold."""
    expression = compile_expression(text)
    try:
        found = expression.evaluate(data)
    except ValidationFailed:
        return
    assert compile_expression("type(@)").evaluate(found) in expression.kinds
