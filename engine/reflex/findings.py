"""What a scan found, and how a value is shown without being told."""

from __future__ import annotations

from typing import Any, NamedTuple

SEVERITIES = ("low", "medium", "high", "critical")
"""Of an injection, rising."""

MASK = "•••"

UNKNOWN = "unknown"
"""Category of a hit whose kind of personal data only a remote gate knows: no policy here can speak of it, so it
blocks."""


class Hit(NamedTuple):
    """A match: `kind` is a PII kind or an injection family, `rule` the pattern's name.

    `start` and `end` are half-open offsets into the text as it was given. `confidence` (0..1) belongs to PII
    and is 0 otherwise; `severity` belongs to injection and is "" otherwise.
    """

    category: str
    kind: str
    rule: str
    start: int
    end: int
    confidence: float
    severity: str


def masked(value: str) -> str:
    """`value` with at most two characters left at each end, and none when it is short."""
    length = len(value)
    shown = 2 if length >= 12 else 1 if length >= 8 else 0
    return f"{value[:shown]}{MASK}{value[length - shown :]}" if shown else MASK


def mark(kind: str) -> str:
    """What stands where a value of `kind` was redacted: `[EMAIL]`, `[CREDIT_CARD]`."""
    return f"[{kind.upper()}]"


def answer(text: str, hits: list[Hit]) -> dict[str, list[dict[str, Any]]]:
    """The JSON form of a scan: two lists, `pii` and `injection`."""
    return {
        "pii": [
            {
                "type": hit.kind,
                "start": hit.start,
                "end": hit.end,
                "confidence": hit.confidence,
                "masked": masked(text[hit.start : hit.end]),
            }
            for hit in hits
            if hit.category == "pii"
        ],
        "injection": [
            {
                "family": hit.kind,
                "severity": hit.severity,
                "start": hit.start,
                "end": hit.end,
                "rule": hit.rule,
            }
            for hit in hits
            if hit.category == "injection"
        ],
    }
