"""Dedupe keys: what they are made of, when their faults show, and what two formats say alike."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import ValidationFailed
from engine.pipeline import parse_definition
from engine.pipeline.keys import dedupe_key, scheduled_key
from tests.unit.pipeline.documents import small

TIMED = {"every": "1m"}


def keyed(key: str, **members: Any) -> dict[str, Any]:
    """A definition with this key, due every minute unless told otherwise."""
    return small(**{"schedule": TIMED, "dedupe": {"key": key}} | members)


@pytest.mark.parametrize(
    ("key", "members", "expected"),
    [
        ("report", {}, "report"),
        ("$${params.city}", {}, "${params.city}"),
        ("${params.city}", {"params": {"city": "Chisinau"}}, "Chisinau"),
        ("${params.n}", {"params": {"n": 3}}, "3"),
        ("${params.all}", {"params": {"all": [1, "a"]}}, '[1,"a"]'),
        ("${params.n}", {"params_schema": {"properties": {"n": {"default": 7}}}}, "7"),
        ("a-${event.id}", {}, "a-"),
        ("${trigger.kind}", {}, "schedule"),
        ("${params.n} ", {"params": {"n": 3}}, "3 "),
    ],
)
def test_the_key_of_a_schedule_is_known_with_its_definition(
    key: str, members: dict[str, Any], expected: str
) -> None:
    """Made of the definition's own parameters, defaults included; always text."""
    assert scheduled_key(parse_definition(keyed(key, **members))) == expected


@pytest.mark.parametrize("schedule", [{"manual": True}, {"event": {"topic": "a"}}])
def test_other_kinds_have_no_key_until_they_run(schedule: dict[str, Any]) -> None:
    """Each run-now and each event has its own."""
    definition = parse_definition(keyed("${params.id}${event.payload.id}", schedule=schedule))
    assert scheduled_key(definition) is None
    assert dedupe_key(definition.document, "run_now", {"id": 4}, None) == "4"
    assert dedupe_key(definition.document, "event", None, {"payload": {"id": 5}}) == "5"


@pytest.mark.parametrize(
    ("key", "members", "code", "words"),
    [
        ("  ", {}, "dedupe_key", "comes to nothing"),
        ("  ", {"schedule": {"manual": True}}, "dedupe_key", "comes to nothing"),
        ("${params.city}", {}, "dedupe_key", "comes to nothing"),
        ("${params.a}", {"params": {"a": "x" * 501}}, "dedupe_key", "501 characters"),
        ("${b64(params.n)}", {"params": {"n": 3}}, "dedupe_key", "needs string"),
        ("${now}", {}, "unknown_root", "known are params, trigger, event"),
        ("${secrets.TOKEN}", {}, "unknown_root", "secrets"),
        ("${steps.one}", {}, "unknown_root", "steps"),
        ("${params.", {}, "template_syntax", "}"),
    ],
)
def test_faults_show_when_the_definition_is_stored(
    key: str, members: dict[str, Any], code: str, words: str
) -> None:
    """At the key, in words that say how to mend it."""
    with pytest.raises(ValidationFailed) as caught:
        parse_definition(keyed(key, **members))
    (problem,) = caught.value.errors
    assert (problem.pointer, problem.code) == ("/dedupe/key", code)
    assert words in problem.detail


@pytest.mark.parametrize("text", ["\x00", "\ud83d", "", " ", "x" * 501])
def test_faults_of_a_run_show_when_it_is_asked_for(text: str) -> None:
    """What comes with a run is looked at then."""
    document = parse_definition(keyed("${params.id}", schedule={"manual": True})).document
    with pytest.raises(ValidationFailed) as caught:
        dedupe_key(document, "run_now", {"id": text}, None)
    assert caught.value.errors[0].code == "dedupe_key"


def test_the_longest_key_is_taken() -> None:
    """Five hundred characters of any kind."""
    document = parse_definition(keyed("${params.id}", schedule={"manual": True})).document
    assert dedupe_key(document, "run_now", {"id": "€" * 500}, None) == "€" * 500
