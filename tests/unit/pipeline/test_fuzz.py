"""Definitions that nobody meant: accepted, or refused with a place, and nothing else ever."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.errors import ValidationFailed
from engine.pipeline import convert, dump_yaml, lint, load_documents, parse_definition
from engine.pipeline.documents import Document
from tests.unit.pipeline.documents import SEED, briefing, small

STARTS = [briefing().value, SEED, small()]
WORDS = [
    "", "x", "morning", "15m", "0s", "P1D", "${now}", "${steps.calendar.x}", "${", "$${", "${secrets.A}", "${item}",
    "a.b > 1", "!", "FREQ=DAILY", "* * * * *", "2026-12-01", "Europe/Berlin", "fail", "calendar", "block", "manual",
    "\x00", "\ud800", "ü😀", "a" * 3000, "[" * 200,
]  # fmt: skip
KEYS = [
    "id",
    "uses",
    "with",
    "if",
    "needs",
    "schedule",
    "rrule",
    "cron",
    "every",
    "manual",
    "reflex",
    "retry",
    "on",
    "steps",
    "$ref",
    "type",
    "x-a",
    "~/",
    "",
]
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 10**20),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=8),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with every key or index in it."""
    if isinstance(value, dict):
        return [(value, key) for key in value] + [place for item in value.values() for place in places(item)]
    if isinstance(value, list):
        return [(value, n) for n in range(len(value))] + [place for item in value for place in places(item)]
    return []


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid definition with a few parts taken away, replaced, moved or added."""
    document = copy.deepcopy(draw(st.sampled_from(STARTS)))
    for _ in range(draw(st.integers(1, 4))):
        found = places(document)
        if not found:
            break
        container, key = draw(st.sampled_from(found))
        action = draw(st.sampled_from(["replace", "remove", "add", "move"]))
        if action == "remove":
            del container[key]
        elif action == "add" and isinstance(container, dict):
            container[draw(st.sampled_from(KEYS))] = draw(values)
        elif action == "move":
            source, at = draw(st.sampled_from(found))
            container[key] = copy.deepcopy(source[at]) if source is not container or at in source else None
        else:
            container[key] = draw(values)
    return document


@settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(mutated())
@example([])
@example({"payload": None})
@example({"schedule_kind": [], "payload": {"pipeline": [[]]}})
def test_a_mutated_definition_is_accepted_or_refused_with_a_place(document: Any) -> None:
    """What is accepted says the same when stored, linted and converted; what is refused names its place."""
    try:
        definition = parse_definition(Document(document))
    except ValidationFailed as error:
        assert error.errors  # noqa: PT017 either outcome is right, and each has its own condition
        assert all(each.pointer == "" or each.pointer.startswith("/") for each in error.errors)  # noqa: PT017 as above
        return
    assert parse_definition(definition.document) == definition
    lint(definition, {})
    (again,) = load_documents(convert(document))
    assert parse_definition(again) == definition


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(
    mutated(),
    st.integers(0, 4000),
    st.sampled_from(["", " ", "\n", ":", "-", "{", "'", '"', "*", "&a ", "!t ", "#", "\t"]),
)
def test_damaged_text_is_accepted_or_refused_with_a_line(document: Any, at: int, damage: str) -> None:
    """Every problem of a definition that came as text has line and column within the text."""
    try:
        text = dump_yaml(document) if isinstance(document, dict | list) else ""
    except (UnicodeEncodeError, ValueError):
        return  # not a text in the first place
    text = text[:at] + damage + text[at:]
    try:
        for each in load_documents(text):
            parse_definition(each)
    except ValidationFailed as error:
        lines = text.split("\n")
        for problem in error.errors:
            assert problem.line is not None
            assert 1 <= problem.line <= len(lines) + 1
            assert problem.column is not None
