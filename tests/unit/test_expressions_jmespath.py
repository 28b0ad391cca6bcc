"""Plain JMESPath keeps its meaning in the dialect: cases written from the specification, then the library itself.

The property tests compare with the `jmespath` package on expressions drawn from the grammar.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ValidationFailed
from engine.expressions import compile_expression
from tests.examples import examples

DATA: dict[str, Any] = {
    "foo": {"bar": {"baz": "deep"}, "list": [0, 1, 2, 3, 4, 5], "empty": "", "zero": 0, "null": None},
    "people": [
        {"name": "ann", "age": 30, "tags": ["a", "b"], "home": {"city": "X"}},
        {"name": "bob", "age": 20, "tags": [], "home": {"city": "Y"}},
        {"name": "cid", "age": 40},
    ],
    "ops": {"a": {"n": 1}, "b": {"n": 2}, "c": {"m": 3}, "d": 4},
    "nested": [[0, 1], 2, [3], [[4], 5], []],
    "with space": 1, "a-b": 2, "é": 3, "t": True, "f": False, "nothing": None, "strings": ["b", "a", "c"],
}  # fmt: skip

IDENTIFIERS = [
    ("foo", DATA["foo"]), ("missing", None), ('"with space"', 1), ('"a-b"', 2), ('"\\u00e9"', 3), ("@", DATA),
    ("foo.bar", {"baz": "deep"}), ("foo.bar.baz", "deep"), ("foo . bar . baz", "deep"), ("foo.missing.x", None),
    ("foo.bar.baz.x", None), ("foo.zero", 0), ("foo.empty", ""), ('foo."bar".baz', "deep"),
    ("foo\n.bar\t.baz", "deep"),
]  # fmt: skip
INDEXES = [
    ("foo.list[0]", 0), ("foo.list[5]", 5), ("foo.list[6]", None), ("foo.list[-1]", 5), ("foo.list[-6]", 0),
    ("foo.list[-7]", None), ("foo[0]", None), ("foo.empty[0]", None), ("nested[3][0][0]", 4),
    ("people[1].name", "bob"),
]  # fmt: skip
SLICES = [
    ("foo.list[1:3]", [1, 2]), ("foo.list[:2]", [0, 1]), ("foo.list[4:]", [4, 5]),
    ("foo.list[:]", [0, 1, 2, 3, 4, 5]), ("foo.list[::2]", [0, 2, 4]), ("foo.list[::-1]", [5, 4, 3, 2, 1, 0]),
    ("foo.list[-2:]", [4, 5]), ("foo.list[10:]", []), ("foo.list[3:1]", []), ("foo[0:1]", None),
    ("people[:2].name", ["ann", "bob"]), ("foo.list[4:1:-2]", [4, 2]), ("foo.list[0:99:5]", [0, 5]),
]  # fmt: skip
PROJECTIONS = [
    ("people[*].name", ["ann", "bob", "cid"]), ("people[*].home.city", ["X", "Y"]), ("people[*].missing", []),
    ("foo[*]", None), ("ops.*.n", [1, 2]), ("ops.*", [{"n": 1}, {"n": 2}, {"m": 3}, 4]), ("foo.list.*", None),
    ("people[].tags[]", ["a", "b"]), ("nested[]", [0, 1, 2, 3, [4], 5]), ("nested[][]", [0, 1, 2, 3, 4, 5]),
    ("foo[]", None), ("people[*].tags[0]", ["a"]), ("people[*].tags | [0]", ["a", "b"]), ("*.bar.baz", ["deep"]),
    ("people[*].[name, age]", [["ann", 30], ["bob", 20], ["cid", 40]]), ("[*]", None), ("nested[*][0]", [0, 3, [4]]),
    ("people[].home[].city", ["X", "Y"]), ("people[*].tags[*]", [["a", "b"], []]),
]  # fmt: skip
FILTERS = [
    ("people[?age > `25`].name", ["ann", "cid"]), ("people[?age >= `30` && age < `40`].name", ["ann"]),
    ("people[?age == `20` || name == 'cid'].name", ["bob", "cid"]), ("people[?home].name", ["ann", "bob"]),
    ("people[?!home].name", ["cid"]), ("people[?tags].name", ["ann"]),
    ("people[?home.city == 'Y'] | [0].name", "bob"), ("people[?age != `20`].name", ["ann", "cid"]),
    ("people[?name == `\"ann\"`].age", [30]), ("foo[?a]", None),
    ("people[?contains(tags || `[]`, 'a')].name", ["ann"]), ("foo.list[?@ > `3`]", [4, 5]),
    ("nested[?[0]]", [[0, 1], [3], [[4], 5]]), ("people[?age > name]", []),
    ("people[?(age > `25` || home) && !tags].name", ["bob", "cid"]),
]  # fmt: skip
SELECTS = [
    ("foo.[bar.baz, zero]", ["deep", 0]), ("foo.{a: bar.baz, b: zero}", {"a": "deep", "b": 0}),
    ("missing.[a, b]", None), ("missing.{a: b}", None), ("[foo.zero, t]", [0, True]),
    ("{x: {y: foo.zero}}", {"x": {"y": 0}}), ('{"q k": t}', {"q k": True}),
    ("people[0].{n: name, first: tags[0]}", {"n": "ann", "first": "a"}), ("foo.list[?@ == `9`] | [0]", None),
    ("[people[*].name, ops.*.n]", [["ann", "bob", "cid"], [1, 2]]),
]  # fmt: skip
LOGIC = [
    ("missing || t", True), ("foo.empty || 'x'", "x"), ("foo.zero || 'x'", 0), ("f || nothing", None),
    ("t && f", False), ("t && foo.zero", 0), ("nothing && t", None), ("!t", False), ("!nothing", True),
    ("!(foo.zero)", False), ("!(foo.empty)", True), ("!foo.zero", None), ("!!t", True), ("f && t || t", True),
    ("t || f && f", True), ("(t || f) && f", False), ("t == f", False), ("t == `true`", True),
    ("foo.zero == f", False), ("`1` == `1.0`", True), ("`1` == `true`", False), ("`[1]` == `[true]`", False),
    ("`{\"a\": 0}` == `{\"a\": false}`", False), ("foo.list == `[0, 1, 2, 3, 4, 5]`", True), ("t < f", None),
    ("nothing < `1`", None), ("'a' < 'b'", True), ("'a' < `1`", None), ("missing == nothing", True),
    ("missing != `null`", False), ("!people[9]", True),
]  # fmt: skip
LITERALS = [
    ("`\"text\"`", "text"), ("`{\"a\": [1, null]}`", {"a": [1, None]}), ("`1.5`", 1.5), ("`-1`", -1),
    ("'raw'", "raw"), ("'it\\'s'", "it's"), ("'\\n'", "\\n"), ("''", ""), ("`\"\\u03a6\"`", "Φ"),
    ("`\"a\\`b\"`", "a`b"), ("`bare`", "bare"), ("` \"spaced\" `", "spaced"), ("'a`b\"c'", 'a`b"c'),
]  # fmt: skip
FUNCTIONS = [
    ("abs(`-3`)", 3), ("avg(foo.list)", 2.5), ("avg(`[]`)", None), ("ceil(`1.2`)", 2), ("floor(`-1.2`)", -2),
    ("contains(strings, 'a')", True), ("contains('abc', 'bc')", True), ("contains('abc', `1`)", False),
    ("contains(foo.list, `true`)", False), ("ends_with('abc', 'c')", True), ("starts_with('abc', 'b')", False),
    ("join('-', strings)", "b-a-c"), ("join(',', `[]`)", ""), ("keys(foo.bar)", ["baz"]),
    ("values(foo.bar)", ["deep"]), ("length('abc')", 3), ("length(foo.list)", 6), ("length(foo.bar)", 1),
    ("map(&name, people)", ["ann", "bob", "cid"]), ("map(&missing, people)", [None, None, None]),
    ("max(foo.list)", 5), ("max(strings)", "c"), ("max(`[]`)", None), ("min(strings)", "a"),
    ("max_by(people, &age).name", "cid"), ("min_by(people, &age).name", "bob"), ("min_by(`[]`, &a)", None),
    ("merge(`{\"a\": 1}`, `{\"a\": 2, \"b\": 3}`)", {"a": 2, "b": 3}), ("not_null(missing, nothing, t)", True),
    ("not_null(missing)", None), ("reverse('abc')", "cba"), ("reverse(strings)", ["c", "a", "b"]),
    ("sort(strings)", ["a", "b", "c"]), ("sort_by(people, &age)[*].name", ["bob", "ann", "cid"]),
    ("sort_by(`[]`, &a)", []), ("sum(foo.list)", 15), ("sum(`[]`)", 0), ("to_array('a')", ["a"]),
    ("to_array(strings)", ["b", "a", "c"]), ("to_number('1.5')", 1.5), ("to_number('x')", None),
    ("to_number(t)", None), ("to_number(`[]`)", None), ("to_number('-7')", -7),
    ("to_string(`[1, {\"a\": null}]`)", '[1,{"a":null}]'), ("to_string('x')", "x"), ("type(`1`)", "number"),
    ("type(t)", "boolean"), ("type(nothing)", "null"), ("type(foo)", "object"), ("type('')", "string"),
    ("type(strings)", "array"), ("people[*].length(name)", [3, 3, 3]),
]  # fmt: skip
CASES = [
    *IDENTIFIERS, *INDEXES, *SLICES, *PROJECTIONS, *FILTERS, *SELECTS, *LOGIC, *LITERALS, *FUNCTIONS,
]  # fmt: skip

SYNTAX_ERRORS = [
    "", " ", ".", ".foo", "foo.", "foo..bar", "foo.1", "foo.-11", "foo[", "foo]", "foo[bar]", "foo[*", "foo[*]bar",
    "[", "]", "{", "}", "{}", "{a}", "{a:}", "{a: b", "{a: b,}", "{a b}", "{1: a}", "[a,", "[a b]", "[a,]", "foo.[",
    "foo.{}", "foo.[]bar", "foo(", "foo)", "foo(a", "length(a,)", "length(a b)", "(a", "a)", "()", "&&", "a &&",
    "|| a", "a ||", "a | ", "| a", "!", "a !b", "a == ", "== a", "a = b", "a === b", "a <> b", "'open", '"open',
    "`open", "foo[?a", "foo[?]", "foo[?a==]", "foo[0:1:2:3]", "foo[:::]", "foo[a:b]", "*foo", "**", "*.*foo",
    "foo.*bar", "#", "foo#", "a % b", "a; b", '"a"(b)', "foo.&bar", "foo[0, 1]", "foo.[0]", "[0, 1]", "a.(b)", "1",
    "foo[1.5]", "foo[::0]", "[:]a", "a[?b]c",
]  # fmt: skip
TYPE_ERRORS = [
    "abs('x')", "avg(strings)", "ceil(t)", "contains(foo, 'a')", "ends_with('a', `1`)", "join(',', foo.list)",
    "keys(strings)", "length(`1`)", "length(nothing)", "map(&name, foo)", "max(nested)", "max_by(people, &home)",
    "sort_by(people, &tags)", "min_by(nested, &@)", "merge(foo, strings)", "reverse(t)", "sort(nested)",
    "sort(people)", "sum(strings)", "starts_with(t, 'a')", "values(strings)", "max(`[1, \"a\"]`)",
    "sort_by(`[{\"a\": 1}, {\"a\": \"b\"}]`, &a)",
]  # fmt: skip
ARITY_ERRORS = [
    "abs()", "abs(`1`, `2`)", "length()", "join(',')", "not_null()", "merge()", "map(&a)", "sort_by(people)",
    "type()", "unknown(a)", "foo.lengthy(a)", "length(&a)", "map(a, b)", "&a", "[&a]", "&a || b",
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[text for text, _ in CASES])
def test_specified_meaning(text: str, expected: Any) -> None:
    """Each construct of the specification means here what it means there."""
    found = compile_expression(text).evaluate(DATA)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("text", SYNTAX_ERRORS + ARITY_ERRORS)
def test_what_is_no_expression_is_refused(text: str) -> None:
    """Text outside the grammar, an unknown function or a wrong number of arguments never compiles."""
    with pytest.raises(ValidationFailed) as caught:
        compile_expression(text)
    (problem,) = caught.value.errors
    assert problem.code == "expression_syntax"
    assert problem.column is not None
    assert 1 <= problem.column <= len(text) + 1


@pytest.mark.parametrize("text", TYPE_ERRORS)
def test_functions_refuse_wrong_types(text: str) -> None:
    """An argument of the wrong type is an error when evaluated, and the message holds no value."""
    expression = compile_expression(text)
    with pytest.raises(ValidationFailed) as caught:
        expression.evaluate(DATA)
    assert caught.value.errors[0].code == "expression_failed"
    assert "deep" not in caught.value.message


names = st.sampled_from(["a", "b", "c", '"a"'])
literals = st.sampled_from(["`1`", "`0`", "`null`", "`true`", "'x'", "`[1, 2]`", '`{"a": 1}`', '`""`'])


def longer(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions with one construct around smaller ones."""
    join = st.tuples(inner, inner)
    comparator = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    return st.one_of(
        st.tuples(inner, names).map(".".join),
        st.tuples(inner, st.integers(-3, 3)).map(lambda pair: f"{pair[0]}[{pair[1]}]"),
        st.tuples(inner, st.sampled_from(["[*]", "[]", ".*", "[1:]", "[::-1]", "[:2]"])).map("".join),
        st.tuples(inner, inner, names).map(lambda parts: f"{parts[0]}[?{parts[1]}].{parts[2]}"),
        st.tuples(inner, comparator, inner).map(" ".join),
        join.map(" || ".join), join.map(" && ".join), join.map(" | ".join), inner.map("!{}".format),
        inner.map("({})".format), join.map(lambda pair: f"[{pair[0]}, {pair[1]}]"),
        join.map(lambda pair: f"{{x: {pair[0]}, y: {pair[1]}}}"),
        inner.map("length({})".format), inner.map("to_string({})".format), inner.map("type({})".format),
        inner.map("to_array({})".format), join.map(lambda pair: f"not_null({pair[0]}, {pair[1]})"),
        join.map(lambda pair: f"map(&{pair[0]}, to_array({pair[1]}))"), inner.map("keys({})".format),
        join.map(lambda pair: f"sort_by({pair[0]}, &{pair[1]})"), inner.map("sort({})".format),
    )  # fmt: skip


expressions = st.recursive(st.one_of(names, literals, st.just("@")), longer, max_leaves=8)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "x", "y"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=12,
)  # fmt: skip


@examples(200)
@given(expressions, values)
def test_the_library_agrees(text: str, data: Any) -> None:
    """Whatever the library evaluates, the dialect evaluates to the same; it refuses only what the library does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = jmespath.search(text, data)
        except (jmespath.exceptions.JMESPathError, TypeError):
            return  # a TypeError is the library comparing a text with a number: the specification says null
    found = compile_expression(text).evaluate(data)
    assert found == expected


@examples(200)
@given(st.text(alphabet="ab.[]*?&|!=<>(){}'\"`@,: 0129-+hm\\", max_size=30))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    """No text raises anything but ValidationFailed, neither when compiled nor when evaluated."""
    with suppress(ValidationFailed):
        compile_expression(text).evaluate({"a": [1, {"b": "x"}], "b": None})
