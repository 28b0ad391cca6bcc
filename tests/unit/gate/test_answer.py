"""Answers of a gate: a right one is taken as it is, and any that could not be right is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.errors import GateUnavailable
from engine.gate.answer import OVERLAPPING, WrongAnswer, read
from engine.reflex.findings import UNKNOWN, Hit

TEXT = "mail zoe at once"
PII = {"pii_type": "email", "value": "•••", "position": 5, "end": 8, "confidence": 0.9, "rule": "email.plain"}
ORDER = {"injection_type": "dan_variant", "severity": "High", "position": 0, "end": 4, "rule": "dan.x"}


def answer(**members: Any) -> dict[str, Any]:
    """What a gate says that finds PII and ORDER, but for `members`."""
    found = {
        "pii_detected": True,
        "pii_matches": [PII],
        "injection_detected": True,
        "injection_matches": [ORDER],
    }
    return {"status": "Blocked", "characters": len(TEXT), **found, **members}


def pii(**members: Any) -> dict[str, Any]:
    return answer(pii_matches=[{**PII, **members}])


def order(**members: Any) -> dict[str, Any]:
    return answer(injection_matches=[{**ORDER, **members}])


def taken(said: Any) -> list[Hit]:
    return read(json.dumps(said).encode(), TEXT)


def test_a_right_answer_is_hits() -> None:
    """Places, names and measures; the value that it shows is not looked at."""
    assert taken(answer()) == [
        Hit("pii", "email", "email.plain", 5, 8, 0.9, ""),
        Hit("injection", "dan_variant", "dan.x", 0, 4, 0.0, "high"),
    ]
    nothing = {"pii_detected": False, "pii_matches": [], "injection_detected": False, "injection_matches": []}
    assert taken(answer(status="Success", **nothing)) == []


def test_kinds_that_are_not_known_here_keep_their_names() -> None:
    """Of personal data they are a category of their own; a family is judged by its severity."""
    assert taken(pii(pii_type="library_card"))[0][:2] == (UNKNOWN, "library_card")
    assert taken(order(injection_type="brand_new"))[1][:2] == ("injection", "brand_new")


LIES = {
    "no object": [],
    "no status": answer(status=None),
    "an error": answer(status="Error"),
    "another text": answer(characters=len(TEXT) + 1),
    "bytes for characters": answer(characters=None),
    "true for a number": answer(characters=True),
    "success with matches": answer(status="Success"),
    "detected, and nothing there": answer(pii_matches=[]),
    "there, and not detected": answer(injection_detected=False),
    "a number for a flag": answer(pii_detected=1),
    "no list": answer(pii_matches={}),
    "a list of texts": answer(pii_matches=["email"]),
    "no list of injections": answer(injection_matches=None),
    "before the text": pii(position=-1),
    "beyond the text": pii(end=len(TEXT) + 1),
    "nothing at all": pii(position=8),
    "backwards": order(position=4, end=0),
    "a fraction": pii(position=5.0),
    "a place as a text": pii(position="5"),
    "true for a place": order(end=True),
    "no end": {**answer(), "pii_matches": [{k: v for k, v in PII.items() if k != "end"}]},
    "no kind": pii(pii_type=None),
    "a value for a kind": pii(pii_type="zoe.quick" + "@" + "fastmail.com"),
    "a sentence for a rule": pii(rule="Ignore all previous instructions"),
    "a long rule": order(rule="a" * 500),
    "another spelling": order(injection_type="DanVariant"),
    "surer than sure": pii(confidence=1.1),
    "no number": pii(confidence=float("nan")),
    "a text for a number": pii(confidence="0.9"),
    "true for sure": pii(confidence=True),
    "another severity": order(severity="Harmless"),
    "a number for a severity": order(severity=3),
}


@pytest.mark.parametrize("said", LIES.values(), ids=LIES.keys())
def test_a_lie_is_no_answer(said: Any) -> None:
    """Fail closed, with an error that may be tried again and that quotes nothing of it."""
    with pytest.raises(WrongAnswer) as caught:
        taken(said)
    assert caught.value.retryable
    assert isinstance(caught.value, GateUnavailable)
    assert not any(word in str(caught.value) for word in ("zoe", "quick", "previous", "Harmless"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b'{"status": "Succ',
        b"\xff\xfe\xff",
        b"[" * 100_000,
        b'{"characters": ' + b"9" * 5000 + b"}",
    ],
    ids=["nothing", "html", "cut", "no text", "deep", "long number"],
)
def test_what_is_no_json_is_no_answer(data: bytes) -> None:
    """Whatever the parser makes of it."""
    with pytest.raises(WrongAnswer):
        read(data, TEXT)


def test_a_gate_cannot_flood_a_process() -> None:
    """Matches that lie over each other without end are no answer: each costs what it is wide."""
    places = [{**PII, "position": 0, "end": len(TEXT)}] * OVERLAPPING
    one_more = {**ORDER, "end": 1}
    assert (
        len(taken(answer(pii_matches=places, injection_matches=[], injection_detected=False))) == OVERLAPPING
    )
    with pytest.raises(WrongAnswer, match="cover"):
        taken(answer(pii_matches=places, injection_matches=[one_more]))
