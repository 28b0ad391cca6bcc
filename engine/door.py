"""The gate at the door: what somebody asks for, by REST or SQL, is judged before anything of it is stored or run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from engine import reflex
from engine.errors import GateBlocked, Problem
from engine.gate.asking import Ask, judged
from engine.metrics import Metrics
from engine.reflex import Finding, Policy
from engine.reflex.digests import Pardon
from engine.settings import Settings

PATIENCE = 5.0
"""Seconds that somebody at the door waits for a remote gate; then they are told to come again."""
CREDENTIALS = frozenset({"api_key"})
"""Kinds that belong into secrets."""
POLICED = frozenset({"the definition", "the parameters"})
"""What is judged by the policy that a definition states."""


def floor(settings: Settings) -> Policy:
    """The operator's floor: what a definition needs `reflex:loosen` to go below, and what events must pass."""
    layer = {"pii": settings.reflex_pii, "injection": settings.reflex_injection}
    return reflex.strictest(reflex.parse_policy(layer))


async def admit(
    metrics: Metrics,
    value: Any,
    policy: Policy,
    what: str,
    pardoned: Pardon | None = None,
    *,
    ask: Ask | None = None,
    **details: Any,
) -> Any:
    """`value` as it may go on (redacted where the policy says so).

    Raises GateBlocked; `details` go into it beside the verdict. `what` names the value in the message; `pardoned` are
    findings that people have marked as false. `ask` is a remote gate, which has PATIENCE; raises GateUnavailable.
    """
    if "input" not in policy.on:
        return value
    judging = partial(reflex.judge, value, policy, pardoned=pardoned)
    verdict = await judged(ask, PATIENCE, lambda search: judging(search=search))
    metrics.verdicts.labels(verdict.action).inc()
    if verdict.action == "block":
        raise refusal(verdict.findings, what, **details)
    return verdict.value


def for_names(floor: Policy) -> Policy:
    """What identifies an event cannot be redacted: two events would become one."""
    return replace(floor, pii="block") if floor.pii == "redact" else floor


def refusal(findings: Iterable[Finding], what: str, **details: Any) -> GateBlocked:
    """The error for findings that block: kinds and places, never values."""
    listed = list(findings)
    kinds = ", ".join(sorted({finding.kind_or_family for finding in listed}))
    verdict = {"action": "block", "findings": [finding.as_dict() for finding in listed]}
    return GateBlocked(
        f"the gate refused {what}: it holds {kinds}",
        errors=[
            Problem(finding.kind_or_family, _described(finding, what), finding.pointer)
            for finding in listed
            if finding.action == "block"
        ],
        details={**details, "verdict": verdict},
    )


def _described(finding: Finding, what: str) -> str:
    """What, where in its text, and how to mend it."""
    found = "personal data or a credential" if finding.category == "pii" else "prompt injection"
    place = f"{found} ({finding.kind_or_family}), characters {finding.start} to {finding.end}"
    return f"{place}: {_mend(finding, what)}; a false positive is let pass by `duework reflex allow`"


def _mend(finding: Finding, what: str) -> str:
    if finding.kind_or_family in CREDENTIALS:
        return "name it as ${secrets.NAME} in the pipeline, and set the secret where workers run"
    if what not in POLICED:
        return "take it out"
    if finding.category == "pii":
        kind = finding.kind_or_family
        return f"take it out, or let the definition say `reflex: {{pii: redact}}` or `reflex: {{allow: [{kind}]}}`"
    return "put it in other words, or let the definition say `reflex: {injection: flag}`"
