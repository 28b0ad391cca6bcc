"""Prompt injection in a text: as it reads, as it reads once evasion is undone, and in scripts of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from engine.reflex.evasion import UNDO, WHOLE, View
from engine.reflex.findings import Hit
from engine.reflex.fold import Folded, visible
from engine.reflex.local import lowered
from engine.reflex.matching import CHUNK, OVERLAP, Entry, Place, Span, matcher, spans

_FEW = 3  # characters of another script: fewer are ornaments, no sentence

_SCRIPTS = re.compile(  # of which the written patterns know a language
    "[\u0370-\u03ff\u0400-\u04ff\u0590-\u06ff\u0900-\u097f\u1ea0-\u1eff\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]"
)


def injections(text: str, folded: Folded) -> list[Hit]:
    """The hits in `text`, which `folded` is the plain form of; each place of each rule once."""
    found: set[Hit] = set()
    for place in matcher("injection").occurring(folded.plain):
        found.update(_hits(folded, place))
    for view in _views(folded, matcher("evasion").occurring(folded.plain)):
        found.update(_hidden(folded, view))
    if folded.unfolded:
        found.update(_written(text, folded))
    return list(found)


def _hits(folded: Folded, place: Place) -> Iterator[Hit]:
    entry, first, last = place
    for span in spans(entry.value, entry.width, folded.plain, first, last):
        yield from _hit(entry, folded.text, span, folded.origin(*span))


def _hit(entry: Entry, text: str, span: Span, origin: Span) -> Iterator[Hit]:
    row = entry.row
    severity = lowered(text, *span, row.severity)
    if severity:
        yield Hit("injection", row.kind, row.name, *origin, 0.0, severity)


def _views(folded: Folded, signs: Iterable[Place]) -> Iterator[View]:
    """What each sign of evasion brings to light: a run of an encoding once, wherever it ends; else the chunk."""
    text, plain = folded.text, folded.plain
    done: dict[str, int] = {}
    for entry, first, last in signs:
        undo, name = UNDO[entry.row.kind], entry.row.name
        if entry.row.kind not in WHOLE:
            yield from undo(text, first, min(last + OVERLAP, len(text)))
            continue
        place = max(first, done.get(name, 0))
        for start, _ in spans(entry.value, entry.width, plain, place, last):
            if start >= done.get(name, 0):
                span = entry.value(plain, start, len(plain))[0]
                done[name] = span[1]
                yield from undo(text, *span)


def _hidden(folded: Folded, view: View) -> Iterator[Hit]:
    """The hits in a view, at the places where they stood."""
    plain = view.text.encode("ascii", "replace")
    for entry, first, last in matcher("injection").occurring(plain):
        for span in spans(entry.value, entry.width, plain, first, last):
            yield from _hit(entry, view.text, span, folded.origin(*view.origin(*span)))


def _written(text: str, folded: Folded) -> Iterator[Hit]:
    """The hits of patterns for scripts of their own; offsets in the visible text are those of the folded one."""
    length = len(folded.text)
    for first in range(0, length, CHUNK):
        last = min(first + CHUNK + OVERLAP, length)
        start, end = folded.origin(first, last)
        if folded.plain.count(b"?", first, last) < text.count("?", start, end) + _FEW:
            continue
        shown = visible(text[start:end])
        if not _SCRIPTS.search(shown):
            continue
        plain = shown.encode("utf-8", "replace")
        for entry, begin, until in matcher("written").occurring(plain):
            for place in _in_characters(plain, spans(entry.value, entry.width, plain, begin, until)):
                if place[0] < CHUNK:
                    yield from _hit(entry, shown, place, folded.origin(first + place[0], first + place[1]))


def _in_characters(plain: bytes, found: Iterable[Span]) -> Iterator[Span]:
    """Spans in UTF-8, in order and apart, as spans in its text; each stretch is counted once."""
    done = count = 0
    for start, end in found:
        first = count + len(plain[done:start].decode())
        done, count = end, first + len(plain[start:end].decode())
        yield first, count
