"""Contracts: what satisfies a schema, what is said of what does not, and which schemas are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # it ships no types

from engine.contract import compile_schema
from engine.errors import ValidationFailed
from tests.examples import examples

PERSON: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "mail": {"type": "string", "format": "email"},
        "code": {"type": "string", "pattern": "^[a-z]+$"},
        "level": {"enum": ["low", "high"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2, "uniqueItems": True},
        "either": {"anyOf": [{"type": "string"}, {"type": "object", "required": ["x"]}]},
        "one": {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 5}]},
        "free": {"type": "object", "additionalProperties": {"type": "integer"}},
        "no": False,
    },
}

REFUSED = [
    ({}, "", "missing", "'name' is missing"), ([], "", "wrong_type", "must be object, not array"),
    ({"name": 5}, "/name", "wrong_type", "must be string, not integer"),
    ({"name": ""}, "/name", "wrong_length", "at least 1 character"),
    ({"name": "x" * 21}, "/name", "wrong_length", "must have at most 20 characters"),
    ({"name": "x", "age": -1}, "/age", "out_of_range", "at least 0"),
    ({"name": "x", "age": 1.5}, "/age", "wrong_type", "must be integer, not number"),
    ({"name": "x", "age": True}, "/age", "wrong_type", "not boolean"),
    ({"name": "x", "mail": "nobody"}, "/mail", "wrong_form", "is not a valid email"),
    ({"name": "x", "code": "A1"}, "/code", "wrong_form", "^[a-z]+$"),
    ({"name": "x", "level": "hihg"}, "/level", "not_allowed", "did you mean 'high'?"),
    ({"name": "x", "tags": ["a", 1]}, "/tags/1", "wrong_type", "must be string"),
    ({"name": "x", "tags": ["a", "b", "c"]}, "/tags", "wrong_length", "at most 2 elements"),
    ({"name": "x", "tags": ["a", "a"]}, "/tags", "repeated", "twice"),
    ({"name": "x", "either": 1}, "/either", "any_of", "must be string or object, not integer"),
    ({"name": "x", "either": {}}, "/either", "missing", "'x' is missing"),
    ({"name": "x", "one": 7}, "/one", "one_of", "exactly one"),
    ({"name": "x", "nmae": 1}, "/nmae", "unknown_key", "did you mean 'name'?"),
    ({"name": "x", "free": {"a/b": "y"}}, "/free/…", "wrong_type", "must be integer"),
    ({"name": "x", "no": 1}, "/no", "not_allowed", "not allowed"),
    ({"name": "x", "jo@example.com": 1}, "", "unknown_key", "holds a key that is not known"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "pointer", "code", "detail"), REFUSED, ids=[str(case[0])[:40] for case in REFUSED]
)
def test_problems_name_place_and_rule(value: Any, pointer: str, code: str, detail: str) -> None:
    """One problem, its pointer exact, its code from the keyword, its wording short."""
    (problem,) = compile_schema(PERSON).check(value)
    assert (problem.pointer, problem.code) == (pointer, code)
    assert detail in problem.detail
    assert len(problem.detail) < 200


def test_all_problems_are_reported() -> None:
    """Not only the first."""
    found = compile_schema(PERSON).check({"age": "old", "extra": 1, "tags": 3})
    assert sorted((problem.pointer, problem.code) for problem in found) == [
        ("", "missing"), ("/age", "wrong_type"), ("/extra", "unknown_key"), ("/tags", "wrong_type"),
    ]  # fmt: skip


CANARIES = [
    "jane.canary@example.com",
    "4111 1111 1111 1111",
    4111111111111111,
    ["078-05-1120"],
    {"078-05-1120": 1},
]


@pytest.mark.parametrize("canary", CANARIES, ids=str)
def test_problems_never_quote_values(canary: Any) -> None:
    """Whatever is wrong with personal data, no part of it is in what is said."""
    schemas: list[dict[str, Any]] = [
        {"type": "boolean"}, {"enum": ["a"]}, {"const": 1},
        {"maxLength": 1, "minimum": 10**18, "maxProperties": 0, "maxItems": 0},
        {"pattern": "^$", "type": ["string", "null"]}, {"format": "uuid", "not": {}},
        {"additionalProperties": False, "items": False},
        {"anyOf": [{"type": "null"}, {"const": 2}]}, {"propertyNames": {"pattern": "^x"}},
        {"additionalProperties": {"type": "string"}},
    ]  # fmt: skip
    words = ["jane", "canary", "4111", "078", "1120"]
    for schema in schemas:
        for value in (canary, {"data": canary}):
            within = (
                {"properties": {"data": schema}} if isinstance(value, dict) and "data" in value else schema
            )
            for problem in compile_schema(within).check(value):
                assert not any(word in problem.detail + problem.pointer for word in words), problem


def test_keys_are_shown_to_the_author_of_a_document() -> None:
    """With `show_keys` a definition's own unknown keys are named, whatever they look like."""
    (problem,) = compile_schema(PERSON).check({"name": "x", "my key!": 1}, show_keys=True)
    assert problem.pointer == "/my key!"
    assert "'my key!'" in problem.detail


BAD_SCHEMAS = [
    ([], "wrong_type", ""), ({"type": "strin"}, "not_allowed", "/type"),
    ({"properties": 3}, "wrong_type", "/properties"), ({"required": "a"}, "wrong_type", "/required"),
    ({"$ref": "https://example.com/x.json"}, "remote_reference", "/$ref"),
    ({"$ref": "other.json#/a"}, "remote_reference", "/$ref"), ({"$ref": "#/$defs/no"}, "unknown_reference", "/$ref"),
    ({"$ref": "#"}, "circular_reference", "/$ref"),
    ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, "circular_reference",
    "/$defs/a/$ref"),
    ({"properties": {"a": {"pattern": "(?=x)"}}}, "pattern", "/properties/a/pattern"),
    ({"patternProperties": {"(": {}}}, "pattern", "/patternProperties/("),
    ({"properties": {"a": {"$id": "https://example.com"}}}, "embedded_id", "/properties/a/$id"),
    ({"items": [{}]}, "wrong_type", "/items"), pytest.param({"default": object()}, "wrong_type", "", id="not-json"),
    ({"default": float("nan")}, "wrong_type", ""),
    ({"properties": {"properties": {"$ref": "https://x"}}}, "remote_reference", "/properties/properties/$ref"),
    ({"properties": {"enum": {"$ref": "https://x"}}}, "remote_reference", "/properties/enum/$ref"),
    ({"$ref": "#/default", "default": {"$ref": "https://x"}}, "unknown_reference", "/$ref"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "code", "pointer"), BAD_SCHEMAS, ids=[str(case[0])[:50] for case in BAD_SCHEMAS]
)
def test_unusable_schemas_are_refused(schema: Any, code: str, pointer: str) -> None:
    """Not JSON Schema, references that leave the schema or go in circles, patterns beyond RE2."""
    with pytest.raises(ValidationFailed) as caught:
        compile_schema(schema)
    assert (code, pointer) in {(problem.code, problem.pointer) for problem in caught.value.errors}


def test_deep_schemas_are_refused() -> None:
    """Depth that Python could not walk is a problem like any other."""
    schema: dict[str, Any] = {}
    for _ in range(500):
        schema = {"items": schema}
    with pytest.raises(ValidationFailed):
        compile_schema(schema)


def test_no_schema_slips_past_the_metaschema() -> None:
    """Whatever value a keyword has, what the metaschema refuses is refused."""
    official = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    keywords = {key for part in official.META_SCHEMA["$vocabulary"] for key in _keywords_of(part)}
    wrong: list[Any] = [None, -1, "x y", [1], ["a", "a"], {"a": 5}]
    schemas = [{"items": {key: value}} for key in sorted(keywords) for value in wrong]
    refused = [schema for schema in schemas if not official.is_valid(schema)]
    assert len(keywords) > 50
    assert len(refused) > 250
    for schema in refused:
        with pytest.raises(ValidationFailed):
            compile_schema(schema)


def _keywords_of(vocabulary: str) -> set[str]:
    address = vocabulary.replace("/vocab/", "/meta/")
    return set(REGISTRY.contents(address)["properties"]) | {"definitions", "dependencies"}


TREE: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "$id": "https://example.com/tree",
    "definitions": {"node": {"type": "object", "required": ["v"],
    "properties": {"v": {"type": "integer"}, "next": {"$ref": "#/definitions/node"}}}},
    "$ref": "#/definitions/node",
}  # fmt: skip


def test_recursive_references_and_older_drafts() -> None:
    """A schema may describe a tree, and one that names an older draft is read as 2020-12."""
    contract = compile_schema(TREE)
    assert contract.check({"v": 1, "next": {"v": 2, "next": {"v": 3}}}) == []
    (problem,) = contract.check({"v": 1, "next": {"v": 2, "next": {"v": "x"}}})
    assert problem.pointer == "/next/next/v"


def test_anchors_and_annotations_are_understood() -> None:
    """`$anchor`, `x-` keys and annotations neither break nor decide anything."""
    contract = compile_schema(
        {
            "$defs": {"n": {"$anchor": "num", "type": "integer"}},
            "items": {"$ref": "#num"},
            "x-a": 1,
            "examples": [1],
        }
    )
    assert contract.check([1, 2]) == []
    assert contract.check(["x"])[0].pointer == "/0"


def test_deep_values_are_a_problem_not_a_crash() -> None:
    """A value nested beyond Python's stack does not satisfy a recursive schema."""
    deep: Any = {"v": 1}
    for _ in range(20_000):
        deep = {"v": 1, "next": deep}
    assert [problem.code for problem in compile_schema(TREE).check(deep)] == ["too_deep"]


def test_an_error_message_of_the_schema_is_used() -> None:
    """`errorMessage` replaces the wording, not the code."""
    (problem,) = compile_schema({"pattern": "^a", "errorMessage": "begin with a"}).check("b")
    assert (problem.code, problem.detail) == ("wrong_form", "begin with a")


def test_defaults_are_filled_in_and_shared_by_nobody() -> None:
    """Absent properties get their defaults, nested, in lists and by reference; the value given stays as it was."""
    schema = {
        "properties": {
            "n": {"type": "integer", "default": 100},
            "list": {"default": []},
            "deep": {"properties": {"x": {"default": "y"}}},
            "made": {"default": {}, "properties": {"z": {"default": 1}}},
            "rows": {"items": {"$ref": "#/$defs/row"}},
        },
        "allOf": [{"properties": {"also": {"default": True}}}],
        "$defs": {
            "row": {"properties": {"k": {"default": None}, "sub": {"$ref": "#/$defs/row", "default": {}}}}
        },
    }
    contract = compile_schema(schema)
    given_value: dict[str, Any] = {"deep": {}, "rows": [{}, 3], "n": 1}
    filled = contract.with_defaults(given_value)
    assert filled == {
        "deep": {"x": "y"}, "rows": [{"k": None, "sub": {}}, 3], "n": 1, "list": [], "made": {"z": 1}, "also": True,
    }  # fmt: skip
    assert given_value == {"deep": {}, "rows": [{}, 3], "n": 1}
    filled["list"].append(1)
    assert contract.with_defaults({})["list"] == []
    assert contract.with_defaults("text") == "text"
    plain = {"a": 1}
    assert compile_schema({"type": "object"}).with_defaults(plain) is plain


def test_patterns_and_uniqueness_cannot_stall() -> None:
    """A pattern that backtracks elsewhere, and a long list to compare, are done in moments."""
    assert compile_schema({"pattern": "^(a+)+$"}).check("a" * 50_000 + "!")
    rows = [{"n": n} for n in range(20_000)]
    assert compile_schema({"uniqueItems": True}).check(rows) == []
    assert compile_schema({"uniqueItems": True}).check([*rows, {"n": 5.0}])[0].code == "repeated"
    assert compile_schema({"uniqueItems": True}).check([1, True, "1", [1], [True]]) == []


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 7),
    st.sampled_from([1.0, 2.5, "", "a", "ab", "x@y.z", "2026-11-21"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)
leaves = st.one_of(
    st.sampled_from(["string", "integer", "number", "object", "array", "boolean",
    "null"]).map(lambda name: {"type": name}),
    st.lists(st.sampled_from(["string", "integer", "null", "array"]), min_size=1, max_size=2,
    unique=True).map(lambda names: {"type": names}),
    st.lists(scalars, min_size=1, max_size=3).map(lambda items: {"enum": items}),
    values.map(lambda value: {"const": value}),
    st.integers(0, 3).flatmap(lambda n: st.sampled_from([{key: n} for key in (
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems",
        "maxItems", "minProperties", "maxProperties",
    )])),
    st.sampled_from([True, False, {}, {"pattern": "^a"}, {"format": "email"}, {"format": "date"},
    {"format": "unheard-of"}, {"uniqueItems": True}, {"multipleOf": 2}, {"propertyNames": {"pattern": "^a"}}]),
    st.lists(st.sampled_from("abc"), max_size=2, unique=True).map(lambda names: {"required": names}),
)  # fmt: skip
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(lambda properties: {"properties": properties}),
        inner.map(lambda sub: {"items": sub}),
        inner.map(lambda sub: {"not": sub}),
        inner.map(lambda sub: {"additionalProperties": sub}),
        st.lists(inner, min_size=1,
        max_size=3).flatmap(lambda subs: st.sampled_from([{key: subs} for key in ("allOf", "anyOf", "oneOf",
        "prefixItems")])),
        st.lists(inner, min_size=2,
        max_size=3).map(lambda subs: {k: v for sub in subs if isinstance(sub, dict) for k, v in sub.items()}),
        inner.map(lambda sub: {"$defs": {"d": sub}, "properties": {"a": {"$ref": "#/$defs/d"}}}),
    ),
    max_leaves=8,
)  # fmt: skip


@examples(100)
@given(schemas, values)
def test_a_contract_accepts_what_the_validator_accepts(schema: Any, value: Any) -> None:
    """The compiled closures and the reference implementation agree on every schema and value."""
    if isinstance(schema, bool) or "#/$defs/d" in json.dumps(schema.get("$defs", {})):
        return
    if "#/$defs/d" in json.dumps(schema) and "$defs" not in schema:
        return  # merged apart from its definitions
    try:
        contract = compile_schema(schema)
    except ValidationFailed as error:
        assert {problem.code for problem in error.errors} <= {"unknown_reference", "circular_reference"}  # noqa: PT017 the only reasons this strategy can give
        return
    reference = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert (contract.check(value) == []) == reference.is_valid(value)


@pytest.mark.parametrize(
    ("text", "absolute", "reference"),
    [
        ("http://exämple.org/ü?q=日本#ß", True, True), ("urn:x", True, True), ("/é", False, True),
        ("é://x", False, False), ("http://a b", False, False), ("http://x/\ud800", False, False),
    ],
    ids=ascii,
)  # fmt: skip
def test_iris_are_uris_with_further_letters(text: str, absolute: bool, reference: bool) -> None:
    """`iri` and `iri-reference` follow RFC 3987, where a scheme has no further letters."""
    assert (compile_schema({"format": "iri"}).check(text) == []) is absolute
    assert (compile_schema({"format": "iri-reference"}).check(text) == []) is reference
