"""Text in, hits out: fold, match all patterns at once, test each hit exactly, settle overlaps."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from engine.reflex.context import near, values
from engine.reflex.edition import Edition, edition
from engine.reflex.findings import SEVERITIES, Hit, answer, mark
from engine.reflex.fold import Folded, fold
from engine.reflex.injection import injections
from engine.reflex.matching import EDITIONS, matcher
from engine.reflex.memory import Memory

ACT_FROM = 0.5
"""Confidence from which the gate acts. What lies below (addresses of private networks) is reported only."""

MASK_FROM = "high"
"""Severity from which an injection is masked in logs and messages: where the default policy blocks it."""

ROUNDS = 4
ALL_MASKED = "[MASKED]"
"""What stands for a text that does not come to an end of being masked."""


@lru_cache(EDITIONS)
def _memory(_of: Edition) -> Memory:
    return Memory()


def scan(text: str) -> dict[str, list[dict[str, Any]]]:
    """Everything found in `text`: {"pii": [{type, start, end, confidence, masked}], "injection": [{family,
    severity, start, end, rule}]}.

    Offsets are half-open indices into `text`. Any string is accepted. Raises GateUnavailable when the matcher
    cannot work; nothing may pass then.
    """
    return answer(text, hits(text))


def mask(text: str) -> str:
    """`text` with each personal datum, credential and injection of high severity replaced by its mark, for logs and
    error messages.

    Masking can bring to light what a longer value had covered, so it is repeated until nothing is left; a text
    that was made to go on and on is masked as a whole.
    """
    for _ in range(ROUNDS):
        found = harmful(hits(text))
        if not found:
            return text
        text = replaced(text, found)
    return ALL_MASKED


def harmful(found: list[Hit]) -> list[Hit]:
    """Those of `found`, which is in order, that belong in no log and no message; overlapping ones are one."""
    kept: list[Hit] = []
    for hit in found:
        if not (hit.confidence >= ACT_FROM if hit.category == "pii" else at_least(hit.severity, MASK_FROM)):
            continue
        if kept and hit.start < kept[-1].end:
            kept[-1] = kept[-1]._replace(end=max(hit.end, kept[-1].end))
        else:
            kept.append(hit)
    return kept


def replaced(text: str, found: list[Hit]) -> str:
    """`text` with marks in place of `found`, which is sorted and free of overlaps."""
    parts: list[str] = []
    done = 0
    for hit in found:
        parts += (text[done : hit.start], mark(hit.kind))
        done = hit.end
    return "".join(parts) + text[done:]


def hits(text: str) -> list[Hit]:
    """The hits in `text` in order: PII without overlaps, injection as found."""
    return list(_memory(edition()).recall(text, searched))


def searched(text: str) -> list[Hit]:
    """What `hits` answers, worked out anew."""
    folded = fold(text)
    pii = _pii(folded)
    injection = injections(text, folded)
    if not pii and not injection:
        return []
    return sorted(_settled(pii) + injection, key=_place)


def _pii(folded: Folded) -> list[Hit]:
    found: list[Hit] = []
    for entry, first, last in sorted(matcher("pii").occurring(folded.plain)):  # by the order of the rows
        row = entry.row
        if row.context:
            spans = near(folded, entry, first, last)
        else:
            spans = values(folded, entry, first, last, last + entry.width)
        found += [Hit("pii", row.kind, row.name, *folded.origin(*span), row.confidence, "") for span in spans]
    return found


def covered(text: str, spared: Sequence[Hit]) -> list[Hit]:
    """Personal data that `hits` leaves out for one of `spared`, which it overlaps, and that reaches beyond them.

    Of overlapping hits only the surest is told. Where that one is let pass, what it stood for has to be looked at.
    """
    merged = _merged(spared)
    starts = [start for start, _ in merged]
    told = []
    for hit in _pii(fold(text)) if merged else ():
        index = bisect_left(starts, hit.end) - 1
        if index >= 0 and hit.start < merged[index][1]:
            start, end = merged[index]
            if hit.start < start or hit.end > end:
                told.append(hit)
    return sorted(told, key=_place)


def _merged(found: Sequence[Hit]) -> list[tuple[int, int]]:
    """The spans of `found`, overlapping ones as one, in order."""
    spans: list[tuple[int, int]] = []
    for start, end in sorted((hit.start, hit.end) for hit in found):
        if spans and start < spans[-1][1]:
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        else:
            spans.append((start, end))
    return spans


def _settled(found: list[Hit]) -> list[Hit]:
    """Of overlapping hits the surest stays, of equally sure ones the longest."""
    if len(found) < 2:
        return found
    kept: list[Hit] = []
    for hit in sorted(found, key=lambda hit: (hit.start, -hit.confidence, -hit.end)):
        if not kept or kept[-1].end <= hit.start:
            kept.append(hit)
        elif (hit.confidence, hit.end - hit.start) > (kept[-1].confidence, kept[-1].end - kept[-1].start):
            kept[-1] = hit
    return kept


def _place(hit: Hit) -> tuple[int, int, str, str]:
    return hit.start, hit.end, hit.rule, hit.severity


def at_least(severity: str, threshold: str) -> bool:
    """Whether `severity` reaches `threshold`."""
    return SEVERITIES.index(severity) >= SEVERITIES.index(threshold)
