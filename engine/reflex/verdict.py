"""The gate's answer about one value, in a form that may be stored: kinds and places, never values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Action = Literal["pass", "flag", "redact", "block"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the policy acts on.

    `kind_or_family` is a PII kind or an injection family. `pointer` (RFC 6901) leads to the string, number or
    member; `start` and `end` are half-open offsets into that string, into the digits of that number, or into
    the member's key. Keys that themselves hold findings are masked in every pointer. `severity` is "" for
    PII, `confidence` 0 for injection. `masked` keeps at most two characters at each end, and is "" for
    injection. `digest` is set where a run is blocked: the keyed digest by which a release knows it again.
    """

    category: Literal["pii", "injection"]
    kind_or_family: str
    rule: str
    pointer: str
    start: int
    end: int
    masked: str
    action: Action
    severity: str = ""
    confidence: float = 0.0
    digest: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; safe to store, log and return."""
        measure = {"confidence": self.confidence} if self.category == "pii" else {"severity": self.severity}
        name = "kind" if self.category == "pii" else "family"
        shown = {name: text for name in ("masked", "digest") if (text := getattr(self, name))}
        place = {"pointer": self.pointer, "start": self.start, "end": self.end}
        return {
            "category": self.category,
            name: self.kind_or_family,
            "rule": self.rule,
            "action": self.action,
        } | (measure | place | shown)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says about a value.

    `action` is the strictest action of the findings, "pass" without any. `value` is what may go on: the very
    object that was judged unless something was redacted; after "block" nothing may, and `value` is None.
    """

    action: Action
    findings: tuple[Finding, ...]
    value: Any

    def as_dict(self) -> dict[str, Any]:
        """The JSON form without the value; safe to store, log and return."""
        return {"action": self.action, "findings": [finding.as_dict() for finding in self.findings]}
