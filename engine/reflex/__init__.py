"""The reflex gate: finds personal data, credentials and prompt injection, and says what to do about them."""

from engine.reflex.cleaning import cleaned
from engine.reflex.detection import mask, scan
from engine.reflex.digests import Match, digest
from engine.reflex.judging import judge
from engine.reflex.policy import (
    DEFAULT_POLICY,
    Policy,
    below_floor,
    parse_policy,
    policy_of,
    strictest,
    written,
)
from engine.reflex.verdict import Finding, Verdict

__all__ = [
    "DEFAULT_POLICY",
    "Finding",
    "Match",
    "Policy",
    "Verdict",
    "below_floor",
    "cleaned",
    "digest",
    "judge",
    "mask",
    "parse_policy",
    "policy_of",
    "scan",
    "strictest",
    "written",
]
