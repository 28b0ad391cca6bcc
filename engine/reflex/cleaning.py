"""Masking what is told beside a value: errors with their details, log lines, names in an answer.

A policy decides about payloads. What is told *about* them (a message, a member of an error, a pointer) has no policy of
its own, and is stored, logged and answered; so it holds neither personal data nor an injection, whatever the policy.
"""

from __future__ import annotations

from typing import Any

from engine.reflex.detection import ALL_MASKED, ROUNDS, harmful, hits
from engine.reflex.findings import Hit, mark
from engine.reflex.redaction import Redaction, redacted
from engine.reflex.walk import Joined, join


def cleaned(value: Any) -> Any:
    """A JSON value with everything masked that `mask` masks in a text, in strings, numbers and keys.

    Types and structure stay but for numbers, which become their mark. The text ALL_MASKED stands for a value that
    does not come to an end of being masked. Raises GateUnavailable when the matcher cannot work.
    """
    for _ in range(ROUNDS):
        joined = join(value)
        spans = _spans(joined)
        if not spans:
            return value
        value = redacted(value, spans)
    return ALL_MASKED


def _spans(joined: Joined) -> list[Redaction]:
    """What is to be masked, each in the piece where it ends, as judging has it."""
    homes = {}
    clipped = []
    for hit in hits(joined.text):
        if found := joined.home(hit.start, hit.end):
            clipped.append(hit._replace(start=found[1], end=found[2]))
            homes[found[1]] = found[0]
    return [
        (
            homes[hit.start],
            hit.start - homes[hit.start].joined,
            hit.end - homes[hit.start].joined,
            mark(hit.kind),
        )
        for hit in harmful(sorted(clipped, key=_start))
    ]


def _start(hit: Hit) -> int:
    return hit.start
