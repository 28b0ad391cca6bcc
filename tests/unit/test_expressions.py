"""The expression dialect: what it adds to JMESPath, what it says about an expression, and its bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jmespath.parser import Parser

from engine.errors import ValidationFailed
from engine.expressions import compile_expression, functions, is_true

CONTEXT: dict[str, Any] = {
    "now": "2026-11-21T08:30:00Z",
    "params": {"city": "Chisinau", "n": 0},
    "steps": {
        "weather": {"temperature": 26.5, "items": [{"n": 1}, {"n": 3}]},
        "late": {"at": "2026-11-21T10:30:00+02:00", "json": '{"a": [1]}'},
    },
}

DIALECT = [
    ("steps.weather.temperature > 25", True), ("25 < steps.weather.temperature", True),
    ("steps.weather.temperature == 26.5", True), ("length(steps.weather.items) > 0", True),
    ("steps.weather.items[?n >= 2].n", [3]), ("params.n || 7", 0), ("params.x || 7", 7), ("params.city && 1", 1),
    ("abs(-5)", 5), ("abs(-1.5e1)", 15.0), ("default(params.x, 3)", 3), ("params.n > -1", True),
    ("steps.weather.items[-1].n == 3", True), ("max_by(steps.weather.items, &n).n == 3", True),
    ("not_null(params.x, 0)", 0), ("now+24h", "2026-11-22T08:30:00Z"), ("now-30m", "2026-11-21T08:00:00Z"),
    ("now + 1w", "2026-11-28T08:30:00Z"), ("now - 1d12h", "2026-11-19T20:30:00Z"),
    ("now+45s", "2026-11-21T08:30:45Z"), ("now+1d > now", True), ("{t: now+1h}.t", "2026-11-21T09:30:00Z"),
    ("steps.late.at+1h", "2026-11-21T11:30:00+02:00"), ("(now+1h)+1h", "2026-11-21T10:30:00Z"),
    ("now+1h-1h", "2026-11-21T08:30:00Z"), ("date_add(now, '24h')", "2026-11-22T08:30:00Z"),
    ("date_add(now, '-1d12h')", "2026-11-19T20:30:00Z"), ("date_add(now, 90)", "2026-11-21T08:31:30Z"),
    ("date_add('2026-11-21', '1h')", "2026-11-21T01:00:00Z"), ("date_add(now, -0.5)", "2026-11-21T08:29:59.500000Z"),
    ("date_format(now, '%d.%m.%Y %H:%M')", "21.11.2026 08:30"),
    ("date_format(now, '%Y-%m-%dT%H:%M%z', 'Europe/Chisinau')", "2026-11-21T10:30+0200"),
    ("date_format('0007-01-02T00:00:00Z', '%Y %%')", "0007 %"), ("default(params.x, 'y')", "y"),
    ("default(params.n, 'y')", 0), ("from_json(steps.late.json).a[0]", 1), ("lower('ÄB')", "äb"),
    ("upper('äb')", "ÄB"), ("split('a,b,,c', ',')", ["a", "b", "", "c"]), ("replace('a.b.c', '.', '/')", "a/b/c"),
    ("b64('hé')", "aMOp"), ("hash('')", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("hash('a', 'md5')", "0cc175b9c0f1b6a831c399e269772661"),
    ("hash(`{\"b\":1,\"a\":2}`) == hash(`{\"a\":2,\"b\":1}`)", True),
    ("uuid5('dns', 'python.org')", "886313e1-3b8a-5372-9b90-0c9aee199e5d"),
    ("uuid5('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'python.org')", "886313e1-3b8a-5372-9b90-0c9aee199e5d"),
    ("to_number('1_000')", None), ("to_number('nan')", None), ("to_number('1e999')", None), ("to_number('٣')", None),
]  # fmt: skip

REFUSED_AT = [
    ("steps.a +", 9, "only arithmetic"), ("steps.my-step", 9, 'steps."my-step"'), ("a and b", 3, "&&"),
    ("a or b", 3, "||"), ("not a", 5, "!"), ("a = 1", 3, "=="), ("lenght(a)", 1, "length()"),
    ("abs(1, 2)", 1, "2 arguments"), ("'open", 1, "missing"), ("[1, 2]", 3, "does not belong"),
    ("{a: 1}", 5, "backticks"), ("1", 1, "backticks"), ("a[1.5]", 3, "does not belong"),
    ("now+1m1h", 4, "not a duration"), ("now + 24", 5, "only arithmetic"), ("a.b(c)", 3, "no function b"),
    ("`{\"a\": NaN}`", 1, "JSON"), ("$.a", 1, "without a $"), ("length(a", 9, "too early"), ("&a", 1, "argument"),
    ('"a"(b)', 4, "quotes"),
]  # fmt: skip

FAILED = [
    "steps.weather+1h", "params.city+1h", "'9999-12-31T00:00:00Z'+2d", "date_add(now, 'soon')",
    "date_format(now, '%Q')", "date_format(now, '%')", "date_format(now, '%Y', 'Mars/X')", "date_format('x', '%Y')",
    "from_json('{')", "from_json('NaN')", "split('a', '')", "replace('a', '', 'b')", "hash('a', 'crc')",
    "uuid5('x', 'y')", "sum(`[1e308, 1e308]`)", "upper(params)", "floor(to_number('x'))",
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), DIALECT, ids=[text for text, _ in DIALECT])
def test_what_the_dialect_adds(text: str, expected: Any) -> None:
    """Bare numbers, offsets of time and the functions of the design."""
    assert compile_expression(text).evaluate(CONTEXT) == expected


@pytest.mark.parametrize(("text", "column", "hint"), REFUSED_AT, ids=[text for text, _, _ in REFUSED_AT])
def test_syntax_errors_say_where_and_how_to_mend_it(text: str, column: int, hint: str) -> None:
    """The column is the faulty character's, and the message names the usual way out."""
    with pytest.raises(ValidationFailed) as caught:
        compile_expression(text)
    (problem,) = caught.value.errors
    assert (problem.line, problem.column) == (1, column)
    assert hint in problem.detail


@pytest.mark.parametrize("text", FAILED)
def test_functions_without_an_answer_fail_cleanly(text: str) -> None:
    """What has no result is a ValidationFailed of its own code, never another exception."""
    expression = compile_expression(text)
    with pytest.raises(ValidationFailed) as caught:
        expression.evaluate(CONTEXT)
    assert caught.value.errors[0].code == "expression_failed"


def test_truth_is_jmespaths() -> None:
    """null, false, and empty texts, lists and objects are false; 0 is true."""
    empty: list[Any] = [None, False, "", [], {}]
    assert not any(map(is_true, empty))
    assert all(is_true(value) for value in (True, 0, 0.0, "0", [None], {"a": None}))
    assert compile_expression("params.n").holds(CONTEXT)
    assert not compile_expression("params.missing").holds(CONTEXT)


REFERENCES = [
    ("steps.weather.temperature > 25 && params.city == 'x'", {"steps.weather", "params.city"}), ("now+24h", {"now"}),
    ("@", {"@"}), ("keys(@)", {"@"}), ("steps.*.n", {"steps.*"}), ("steps", {"steps"}),
    ("length(steps.a.items) > 0", {"steps.a"}), ("steps.a.items[?b == c].d", {"steps.a"}),
    ("map(&x.y, steps.a)", {"steps.a"}), ("{a: steps.b.c, d: [params.e]}", {"steps.b", "params.e"}),
    ("steps | a.b", {"steps.a"}), ("steps.a | [0].b", {"steps.a"}),
    ("(steps.a || steps.b).c", {"steps.a", "steps.b"}), ("sort_by(steps.a, &b)[0].c", {"steps.a"}), ("`1`", set()),
    ('steps."my-step".x', {"steps.my-step"}), ("steps.a[].b[]", {"steps.a"}), ("!steps.a", {"steps"}),
    ("a[*].{x: b}", {"a.*"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), REFERENCES, ids=[text for text, _ in REFERENCES])
def test_references_are_what_is_read_from_the_root(text: str, expected: set[str]) -> None:
    """Lint is told each place of the context that an expression can read, and no other."""
    assert compile_expression(text).references == expected


def test_paths_go_on_below_the_references() -> None:
    """Whole paths are known as far as the text says them."""
    assert compile_expression("steps.a.items[0].name").paths == {("steps", "a", "items", "*", "name")}
    assert compile_expression("steps.a.items[?n > 1].name").paths == {
        ("steps", "a", "items", "*", "n"),
        ("steps", "a", "items", "*", "name"),
    }


def test_the_negation_trap_is_told() -> None:
    """`!a.b` is `(!a).b`, as in the library, and the expression says so."""
    assert compile_expression("!a.b").traps == (("'!a.b' means '(!a).b': write '!(a.b)'", 1),)
    assert compile_expression("!(a.b) && !c").traps == ()


@pytest.mark.parametrize(
    "text",
    [
        "|".join(["[@,@]"] * 40),
        "|".join(["[@,@][]"] * 40),
        "|".join(["{a:@,b:@}.[a,b]"] * 40),
        "|".join(["merge({a:@},{b:@})"] * 40),
        "||".join("a" * 2000),
        "!" * 4000 + "a",
        "(" * 2000 + "a" + ")" * 2000,
        "a" + "[*]" * 2000,
        "a" + ".a" * 4000 + "x" * 9000,
        "f(" * 500 + "a" + ")" * 500,
        "`" + "[" * 4000 + "]" * 4000 + "`",
    ],
)
def test_texts_that_would_grow_or_nest_without_end_do_not_compile(text: str) -> None:
    """Doubling constructs and deep nesting are refused before anything is evaluated."""
    with pytest.raises(ValidationFailed):
        compile_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        " | ".join(["replace(@, 'a', 'aaaaaaaaaa')"] * 9),
        " | ".join(["join(@, split(@, 'a'))"] * 9),
        "'" + "a" * 3000 + "' | join(@, split(@, 'a')) | join(@, split(@, 'a')) | length(@)",
        "[a,a,a,a,a,a,a,a,a,a][] | [@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@][][]",
    ],
)
def test_growing_values_are_stopped(text: str) -> None:
    """A function that would make an enormous value refuses, and soon."""
    expression = compile_expression(text)
    with pytest.raises(ValidationFailed):
        expression.evaluate({"a": list(range(6000))} if "[a," in text else "a" * 1000)  # type: ignore[arg-type] # any JSON value will do


def test_deep_values_are_refused_not_fatal() -> None:
    """Data nested deeper than Python can walk is an error of the evaluation."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for text in ("to_string(a)", "[a, a]", "a == b", "hash(a)"):
        with pytest.raises(ValidationFailed):
            compile_expression(text).evaluate({"a": deep, "b": [*deep]})


def test_literals_are_not_shared_between_evaluations() -> None:
    """A list written in an expression is a new list each time."""
    expression = compile_expression('`{"a": [1]}`')
    expression.evaluate({})["a"].append(2)
    assert expression.evaluate({}) == {"a": [1]}


def test_the_librarys_parser_cache_is_left_alone() -> None:
    """The dialect neither reads the cache that plain JMESPath fills nor writes to it."""
    Parser().parse("cached.by.library")
    before = dict(Parser._CACHE)  # type: ignore[attr-defined] # absent from the stubs
    with pytest.raises(ValidationFailed):
        compile_expression("a.b > ")
    compile_expression("cached.by.library > 25")
    assert before == Parser._CACHE  # type: ignore[attr-defined] # absent from the stubs


def test_expressions_of_one_text_are_equal() -> None:
    """So that definitions can be compared."""
    assert compile_expression("a.b") == compile_expression("a.b")
    assert compile_expression("a.b") != compile_expression("a.c")


def test_every_function_has_a_signature_and_a_sentence() -> None:
    """The documentation's function table comes from here."""
    names = {
        "date_add",
        "date_format",
        "default",
        "from_json",
        "lower",
        "upper",
        "split",
        "replace",
        "b64",
        "hash",
        "uuid5",
    }
    assert names <= functions().keys()
    assert len(functions()) == len(names) + 26
    for name, function in functions().items():
        assert function.signature.startswith(f"{name}(")
        assert function.summary.endswith(".")
    assert functions()["date_format"].signature == "date_format(string, string, string?)"
    assert functions()["merge"].signature == "merge(object, …)"


@given(st.integers(-(10**9), 10**9), st.sampled_from("smhd"))
def test_offsets_undo_each_other(count: int, unit: str) -> None:
    """now+x-x is now, for any x that keeps the year a calendar's."""
    text = f"now+{abs(count) % 20_000}{unit}-{abs(count) % 20_000}{unit}"
    assert compile_expression(text).evaluate(CONTEXT) == CONTEXT["now"]
