"""Verdicts from what somebody else finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from engine.reflex import DEFAULT_POLICY, Policy, judge, parse_policy, strictest
from engine.reflex.findings import UNKNOWN, Hit

TEXT = "badge 20441 of zoe"


def badge(start: int = 6, end: int = 11, category: str = "pii") -> Hit:
    return Hit(category, "email" if category == "pii" else "badge", "badge.number", start, end, 0.9, "")


def judged(policy: Policy, *hits: Hit) -> Any:
    """The verdict on TEXT, where `hits` are found, and nothing in what becomes of it."""

    def search(text: str) -> Sequence[Hit]:
        return hits if text.startswith(TEXT) else ()

    return judge(TEXT, policy, search=search)


def layer(**members: Any) -> Policy:
    return strictest(parse_policy(members))


def test_what_is_found_elsewhere_is_judged_by_the_policy_here() -> None:
    """The search says where; what is done about it is the policy's."""
    assert judge(TEXT, DEFAULT_POLICY).action == "pass"
    assert judged(DEFAULT_POLICY, badge()).action == "block"
    assert judged(layer(pii="flag"), badge()).action == "flag"
    assert judged(layer(pii="redact", allow=["email"]), badge()).action == "pass"
    redacted = judged(layer(pii="redact"), badge())
    assert (redacted.action, redacted.value) == ("redact", "badge [EMAIL] of zoe")


@pytest.mark.parametrize("pii", ["block", "redact", "flag", "allow"])
def test_a_kind_that_no_policy_here_can_name_blocks(pii: str) -> None:
    """Whatever the policy says of personal data: it was written without knowing of that kind."""
    verdict = judged(layer(pii=pii), badge(category=UNKNOWN))
    assert verdict.action == "block"
    assert verdict.value is None
    (finding,) = verdict.findings
    assert (finding.category, finding.kind_or_family, finding.action) == ("pii", "badge", "block")
    assert finding.masked == "•••"


def test_of_overlapping_places_nothing_is_left_when_they_are_redacted() -> None:
    """A short place within a long one does not bring the long one's end back."""
    verdict = judged(layer(pii="redact"), badge(6, 18), badge(8, 10))
    assert verdict.action == "redact"
    assert verdict.value == "badge [EMAIL][EMAIL]"
