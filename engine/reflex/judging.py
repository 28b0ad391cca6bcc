"""Policy meets findings: one JSON value in, one verdict out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from engine.reflex.detection import ACT_FROM, at_least, covered, hits
from engine.reflex.digests import Fingerprint, Match, Pardon
from engine.reflex.findings import UNKNOWN, Hit, mark, masked
from engine.reflex.policy import ACTIONS, Policy
from engine.reflex.redaction import redacted
from engine.reflex.verdict import Action, Finding, Verdict
from engine.reflex.walk import Exempt, Joined, Path, Piece, join

_ROUNDS = 3  # redacting can bring a value to light that a longer one had covered; then once more

MOST = 1_000
"""Findings that a verdict names, those that decide it first: each takes thirty times the room of the text that brings
it about, and is stored several times."""

Acted = tuple[Hit, Piece, Action]
Search = Callable[[str], Sequence[Hit]]
"""Finds the hits in a text, in order; they may overlap."""


def judge(
    value: Any,
    policy: Policy,
    *,
    exempt: Exempt | None = None,
    pardoned: Pardon | None = None,
    fingerprint: Fingerprint | None = None,
    search: Search = hits,
) -> Verdict:
    """The verdict on any JSON value: strings, numbers and keys, keys also as context of what they name.

    Text between U+E000 and U+E001 for which `exempt(token)` answers True (it gets the token with both signs)
    is neither judged nor altered; any other such text is judged like the rest. A hit that is `pardoned` stays as it
    is, and is no finding. After block, each finding that blocks has its `fingerprint` as its digest. Both are asked
    of nothing but what the policy acts on. What is found is what `search` finds, which is asked again for what
    redacting leaves. All of it decides, and MOST are told as findings. The caller looks at `policy.on`. Raises
    GateUnavailable when the matcher cannot work.
    """
    joined = join(value, exempt)
    every, acted = _found(joined, policy, pardoned, search)
    dirty = _dirty_keys(every)  # before any is pardoned: a pointer shows no pardoned key either
    if not acted:
        return Verdict("pass", (), value)
    action = _strictest(acted)
    if action == "redact":
        clean, shown, around, blocking = _clean(value, joined, acted, policy, exempt, pardoned, search)
        if blocking:  # named at its places in the redacted text: before, it was not there
            return Verdict("block", _findings(shown.text, blocking, dirty | around, fingerprint), None)
        if clean is not None:
            return Verdict("redact", _findings(joined.text, acted, dirty), clean)
        action = "block"
    if action != "block":
        return Verdict(action, _findings(joined.text, acted, dirty), value)
    return Verdict("block", _findings(joined.text, acted, dirty, fingerprint), None)


def _clean(
    value: Any,
    joined: Joined,
    acted: list[Acted],
    policy: Policy,
    exempt: Exempt | None,
    pardoned: Pardon | None,
    search: Search,
) -> tuple[Any, Joined, dict[str, str], list[Acted]]:
    """`value` redacted until nothing is left to redact, None if that does not come to an end; and what redacting has
    brought to light that blocks, with the text that it stands in and its dirty keys."""
    dirty: dict[str, str] = {}
    for _ in range(_ROUNDS):
        spans = [(piece, hit.start - piece.joined, hit.end - piece.joined, mark(hit.kind))
                 for hit, piece, action in acted if action == "redact"]  # fmt: skip
        value = redacted(value, spans)
        joined = join(value, exempt)
        every, left = _found(joined, policy, pardoned, search)
        dirty = _dirty_keys(every)
        if blocking := [entry for entry in left if entry[2] == "block"]:
            return None, joined, dirty, blocking
        acted = [entry for entry in left if entry[2] == "redact"]
        if not acted:
            return value, joined, dirty, []
    return None, joined, dirty, []


def _found(
    joined: Joined, policy: Policy, pardoned: Pardon | None, search: Search
) -> tuple[list[Acted], list[Acted]]:
    """All that the policy acts on, and what is left of it without the pardoned."""
    found = search(joined.text)
    every = list(_acted(joined, found, policy))
    left = _unpardoned(every, joined.text, pardoned)
    kept = {(hit.rule, hit.end) for hit, _, _ in left}
    spared = [
        hit
        for hit in found
        if hit.category == "pii" and hit.confidence >= ACT_FROM and (hit.rule, hit.end) not in kept
    ]
    if spared and policy.pii != "allow":  # what passes lets nothing pass that it overlaps
        more = list(_acted(joined, covered(joined.text, spared), policy))
        every += more
        left += _unpardoned(more, joined.text, pardoned)
    return every, left


def _unpardoned(acted: list[Acted], text: str, pardoned: Pardon | None) -> list[Acted]:
    if pardoned is None:
        return acted
    return [(hit, piece, action) for hit, piece, action in acted if not pardoned(_match(text, hit, piece))]


def _match(text: str, hit: Hit, piece: Piece) -> Match:
    pointer = _pointer(piece.path, {})
    return Match(hit.category, hit.kind, hit.rule, pointer, text[hit.start : hit.end], piece.key)


def _acted(joined: Joined, found: Sequence[Hit], policy: Policy) -> Iterator[Acted]:
    for hit in found:
        action = _action(hit, policy)
        if action == "pass":
            continue
        home = joined.home(hit.start, hit.end)
        if home and (not policy.at or not _granted(hit, home[0], policy)):
            piece, start, end = home
            yield hit._replace(start=start, end=end), piece, action


def _action(hit: Hit, policy: Policy) -> Action:
    if hit.category == "pii":
        passed = hit.kind in policy.allow or hit.confidence < ACT_FROM
        wanted: str = "allow" if passed else policy.pii
    elif hit.category == UNKNOWN:
        wanted = "block"
    else:
        wanted = policy.injection if at_least(hit.severity, policy.threshold) else "allow"
    return _ACTION_OF[wanted]


def _granted(hit: Hit, piece: Piece, policy: Policy) -> bool:
    """Whether a kind may stand at this very place; keys are no place of their own."""
    if hit.category != "pii" or piece.key:
        return False
    pointer = _pointer(piece.path, {}) + "/"
    return any(hit.kind in kinds and pointer.startswith(f"{place}/") for place, kinds in policy.at)


_ACTION_OF: dict[str, Action] = {"allow": "pass", "flag": "flag", "redact": "redact", "block": "block"}


def _strictest(acted: list[Acted]) -> Action:
    return max((action for _, _, action in acted), key=lambda action: ACTIONS.index(action))


def _findings(
    text: str, acted: list[Acted], dirty: dict[str, str], fingerprint: Fingerprint | None = None
) -> tuple[Finding, ...]:
    """MOST findings; with a `fingerprint`, those that block are digested, or all where redacting failed."""
    if len(acted) > MOST:
        worst = _strictest(acted)
        acted = sorted(acted, key=lambda entry: entry[2] != worst)[:MOST]
    found = [_finding(text, hit, piece, action, dirty) for hit, piece, action in acted]
    if fingerprint is not None:
        guilty = "block" if any(one.action == "block" for one in found) else "redact"
        found = [
            replace(one, digest=fingerprint(_match(text, hit, piece))) if action == guilty else one
            for one, (hit, piece, action) in zip(found, acted, strict=True)
        ]
    return tuple(found)


def _finding(text: str, hit: Hit, piece: Piece, action: Action, dirty: dict[str, str]) -> Finding:
    shift = piece.offset - piece.joined
    category: Literal["pii", "injection"] = "injection" if hit.category == "injection" else "pii"
    return Finding(
        category=category,
        kind_or_family=hit.kind,
        rule=hit.rule,
        pointer=_pointer(piece.path, dirty),
        start=hit.start + shift,
        end=hit.end + shift,
        masked=masked(text[hit.start : hit.end]) if category == "pii" else "",
        action=action,
        severity=hit.severity,
        confidence=hit.confidence,
    )


def _dirty_keys(acted: list[Acted]) -> dict[str, str]:
    """Keys that hold something, with what a pointer shows instead of them."""
    return {str(piece.path.step): mark(hit.kind) for hit, piece, _ in acted if piece.key and piece.path}


def _pointer(path: Path | None, dirty: dict[str, str]) -> str:
    steps: list[str] = []
    while path:
        step = str(path.step)
        steps.append(dirty.get(step, step).replace("~", "~0").replace("/", "~1"))
        path = path.parent
    return "".join(f"/{step}" for step in reversed(steps))
