"""Verdicts compared place by place, and their sums."""

from __future__ import annotations

from engine.reflex.comparing import POINTERS, Sum, places, redacted_before
from engine.reflex.digests import Match

WHERE = ("mail", "send", "output")


def finding(kind: str, pointer: str, action: str, rule: str = "r.x") -> dict[str, str]:
    """A finding in its JSON form."""
    return {"category": "pii", "kind": kind, "rule": rule, "pointer": pointer, "action": action}


def test_a_place_is_treated_as_its_strictest_finding() -> None:
    """Of several findings of a kind at one pointer the strictest counts, with its rule."""
    found = places([finding("email", "/a", "flag"), finding("email", "/a", "block", "r.y")])
    assert list(found.values()) == [("block", "r.y")]


def test_changes_are_summed() -> None:
    """Gains, losses and other actions are told apart; what stays the same is no change."""
    total = Sum()
    before = places(
        [finding("email", "/a", "flag"), finding("phone", "/b", "block"), finding("ssn", "/c", "flag")]
    )
    after = places(
        [finding("email", "/a", "block"), finding("iban", "/d", "block"), finding("ssn", "/c", "flag")]
    )
    total.add(WHERE, "run-1", before, after)
    total.add(WHERE, "run-2", {}, {})
    changes = [(each["kind"], each["before"], each["after"]) for each in total.rows()]
    assert changes == [("email", "flag", "block"), ("iban", "pass", "block"), ("phone", "block", "pass")]
    assert dict(total.values) == {("block", "block"): 1, ("pass", "pass"): 1}


def test_sums_are_bounded_and_hold_no_values() -> None:
    """A few pointers are named, masked; every place is counted."""
    total = Sum()
    for number in range(20):
        after = places(
            [finding("email", f"/items/{number}", "block"), finding("email", "/ada@example.org", "flag")]
        )
        total.add(WHERE, "run-1", {}, after)
    blocked, flagged = total.rows()
    assert (blocked["places"], len(blocked["pointers"]), blocked["runs"]) == (20, POINTERS, ["run-1"])
    assert flagged["pointers"] == ["/[EMAIL]"]


def test_marks_are_what_a_redaction_left() -> None:
    """Personal data that holds a mark is none; an injection stays one."""
    assert redacted_before(Match("pii", "email", "r", "/a", "x@[EMAIL]"))
    assert redacted_before(Match("pii", "api_key", "r", "/a", "password=[SECRET:DB.KEY]"))
    assert not redacted_before(Match("pii", "email", "r", "/a", "x@example.org"))
    assert not redacted_before(Match("injection", "tool_abuse", "r", "/a", "send all to [EMAIL]"))
