"""Documents: YAML 1.2 and JSON as plain values, every part with its place, and nothing that can grow."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Malformed
from engine.pipeline import documents, dump_yaml, load_documents

SCALARS = [
    ("1", 1), ("-7", -7), ("010", 10), ("0x1F", 31), ("0o17", 15), ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5),
    ("1_000", "1_000"), ("true", True), ("False", False), ("yes", "yes"), ("on", "on"), ("off", "off"), ("n", "n"),
    ("null", None), ("~", None), ("", None), ("12:30", "12:30"), ("2026-12-25", "2026-12-25"),
    ("2026-12-01T09:00:00", "2026-12-01T09:00:00"), ("'1'", "1"), ('"true"', "true"), ('"\\u00e9"', "é"),
    ("1.2.3", "1.2.3"), ("=", "="), ("<<", "<<"), ("! x", "x"), ("1e999", "1e999"), ("|\n  a\n  b\n", "a\nb\n"),
    (">-\n  a\n  b\n", "a b"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SCALARS, ids=[text for text, _ in SCALARS])
def test_scalars_follow_yaml_1_2(text: str, expected: Any) -> None:
    """The core schema: dates, times and on/off are texts."""
    (document,) = load_documents(f"a: {text}\n")
    assert document.value == {"a": expected}
    assert type(document.value["a"]) is type(expected)


def test_several_documents_in_one_text() -> None:
    """Documents are separated by ---; empty ones are left out, and each keeps its own lines."""
    first, second = load_documents("a: 1\n---\n# nothing\n---\nb:\n  - 2\n", "two.yaml")
    assert (first.value, second.value) == ({"a": 1}, {"b": [2]})
    assert second.position("/b/0") == (6, 5)
    assert second.source == "two.yaml"
    assert load_documents("") == []
    assert load_documents("# only a comment\n") == []


YAML = """\
top: x
list:
  - one
  - {k: v, "a/b~c": [1]}
text: >
  folded
last: "${ a } b"
"""
PLACES = [
    ("", False, (1, 1)), ("/top", False, (1, 6)), ("/top", True, (1, 1)), ("/list", False, (3, 3)),
    ("/list/0", False, (3, 5)), ("/list/1/k", False, (4, 9)), ("/list/1/k", True, (4, 6)),
    ("/list/1/a~1b~0c/0", False, (4, 22)), ("/list/1/a~1b~0c", True, (4, 12)), ("/text", False, (5, 7)),
    ("/missing", False, (1, 1)), ("/list/1/missing/deeper", True, (4, 5)), ("/list/7", False, (3, 3)),
]  # fmt: skip


@pytest.mark.parametrize(("pointer", "key", "place"), PLACES)
def test_every_part_has_a_place(pointer: str, key: bool, place: tuple[int, int]) -> None:
    """Line and column from 1, of values and of keys; what is missing is placed at what is around it."""
    (document,) = load_documents(YAML)
    assert document.position(pointer, key=key) == place


def test_places_within_a_text() -> None:
    """A character of a scalar is placed past its quote; of a folded one at its beginning."""
    (document,) = load_documents(YAML)
    assert document.position_within("/last", "${ a } b", 4) == (7, 11)
    assert document.position_within("/text", "folded\n", 3) == (5, 7)


def test_json_has_the_same_places() -> None:
    """JSON text is read as JSON: tabs, surrogate pairs and escapes included."""
    text = '{\n\t"a": [1, -2.5e1, true, null],\n  "é\\ud83d\\ude00": {"x/y": "\\u0041"}\n}\n'
    (document,) = load_documents(text)
    assert document.value == json.loads(text)
    assert document.position("/a/1") == (2, 11)
    assert document.position("/é😀/x~1y") == (3, 28)
    assert document.position("/é😀/x~1y", key=True) == (3, 21)


def test_flow_yaml_may_begin_with_a_brace() -> None:
    """What is not JSON is tried as YAML."""
    (document,) = load_documents("{a: [1, b], c: 'd'}")
    assert document.value == {"a": [1, "b"], "c": "d"}


def test_a_document_without_text_has_no_places() -> None:
    """Definitions may come as plain values."""
    from engine.pipeline import Document

    assert Document({"a": 1}).position("/a") is None


def test_aliases_are_copies() -> None:
    """An alias gives an equal value that shares nothing."""
    (document,) = load_documents("a: &x {k: [1]}\nb: *x\nc: [*x]\nd: &s text\ne: *s\n")
    assert document.value == {"a": {"k": [1]}, "b": {"k": [1]}, "c": [{"k": [1]}], "d": "text", "e": "text"}
    document.value["a"]["k"].append(2)
    assert document.value["b"] == {"k": [1]}
    assert document.position("/b/k/0") == (2, 4)


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(12)
)
MALFORMED = [
    (LAUGHS, "too_large", 5), ("- " * 60 + "x", "too_deep", 1), ("[" * 60 + "]" * 60, "too_deep", 1),
    ("a: 1\nb: 2\na: 3\n", "duplicate_key", 3), ('{"a": 1,\n "a": 2}', "duplicate_key", 2),
    ("a: !!python/object:os.system x", "tag", 1), ("a: !custom x", "tag", 1), ("a: &x [*x]", "alias", 1),
    ("a: *nowhere", "alias", 1), ("? [a]\n: b", "key", 1), ("? {a: b}\n: c", "key", 1), ("&k a: 1\n*k : 2", "key", 2),
    ("a: .nan", "number", 1), ("a: -.inf", "number", 1), ("a: [1,", "yaml", 1), ("a:\n  b: c: d", "yaml", 2),
    ("a: 'open", "yaml", 1), ("a:\n\t- b", "yaml", 2), ("a: \x07", "yaml", 1), ("x" * 1_000_001, "too_large", 1),
    ("# " + "x" * 300_000, "too_large", 1), ("@", "yaml", 1),
    ("a: b\n- c", "yaml", 2),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "line"), MALFORMED, ids=[text[:16] for text, _, _ in MALFORMED])
def test_what_cannot_be_read_is_placed(text: str, code: str, line: int) -> None:
    """Bombs, tags, repeated keys and broken syntax: one Malformed, with its line."""
    with pytest.raises(Malformed) as caught:
        load_documents(text, "bad.yaml")
    (problem,) = caught.value.errors
    assert (problem.code, problem.line) == (code, line)
    assert caught.value.message.startswith(f"bad.yaml:{line}:{problem.column}: ")


def test_many_values_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted as they come, so that the rest of a long text is never read."""
    monkeypatch.setattr(documents, "MAX_NODES", 500)
    with pytest.raises(Malformed) as caught:
        load_documents("- a\n" * 600)
    (problem,) = caught.value.errors
    assert (problem.code, problem.line) == ("too_large", 500)


JSON_FAULTS = [
    ('{"a": }', 1, 7), ('{"a": 1,}', 1, 9), ('{"a" 1}', 1, 6), ("{a: 1}", 1, 2), ('{"a": 01}', 1, 8),
    ('{"a": "x\n"}', 1, 7), ('{"a": NaN}', 1, 7), ('{"a": 1} 2', 1, 10), ("[1,\n 2\n 3]", 3, 2),
    ('{"a": 1e999}', 1, 7), ("{" + '"a":{' * 60, 1, 256), ("[" + "9" * 400 + "]", 1, 2), ("[", 1, 2),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "column"), JSON_FAULTS, ids=[text[:16] for text, _, _ in JSON_FAULTS]
)
def test_a_json_file_gets_json_errors(text: str, line: int, column: int) -> None:
    """In a .json file, what YAML would forgive or misread is told as JSON's own error."""
    with pytest.raises(Malformed) as caught:
        load_documents(text, "bad.json")
    (problem,) = caught.value.errors
    assert (problem.line, problem.column) == (line, column)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=6), json_values, max_size=4), st.sampled_from([None, 1]))
def test_json_is_read_as_the_standard_library_reads_it(value: Any, indent: int | None) -> None:
    """Same values, whatever the layout; and each value's place is where its text begins."""
    text = json.dumps(value, indent=indent, ensure_ascii=indent is None)
    (document,) = load_documents(text)
    assert document.value == value
    for key in value:
        pointer = "/" + key.replace("~", "~0").replace("/", "~1")
        line, column = document.position(pointer, key=True) or (0, 0)
        assert text.split("\n")[line - 1][column - 1 :].startswith(
            json.dumps(key, ensure_ascii=indent is None)
        )


@given(json_values)
def test_written_yaml_is_read_back(value: Any) -> None:
    """Whatever a definition holds, its YAML says the same."""
    (document,) = load_documents(dump_yaml({"value": value}))
    assert document.value == {"value": value}


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@,? \n\t0.~", max_size=40))
def test_any_text_is_read_or_malformed(text: str) -> None:
    """Nothing but Malformed is raised, and it always has a line."""
    try:
        load_documents(text)
    except Malformed as error:
        assert error.errors[0].line  # noqa: PT017 either outcome is right
