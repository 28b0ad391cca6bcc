"""How long matches can be, and that what is cut by width loses no match."""

from __future__ import annotations

import pytest
import re2

from engine.reflex import matching
from engine.reflex.catalogue import Pattern, patterns
from engine.reflex.detection import searched
from engine.reflex.width import ENDLESS, widest

ROWS = [pytest.param(row, id=row.name) for row in patterns()]
FOUND = [pytest.param(row, id=row.name) for row in patterns() if row.category != "evasion"]
FILLER = "all was well at the sea\n"


@pytest.mark.parametrize(
    ("regex", "width"),
    [
        ("", 0),
        (r"\bab\z", 2),
        ("a{2,5}b?", 6),
        ("(?i)a|(?:bc){3}", 6),
        ("(?i:a[^]x)\\]]{2})|(b)", 3),
        (r"\x41\x{1F600}\p{Lu}[[:alpha:]\]]", 4),
        ("a(?i)b", 2),
        ("(?P<name>ab)", 2),
        ("a+", ENDLESS),
        ("a*?", ENDLESS),
        ("a{3,}", ENDLESS),
    ],
)
def test_widths(regex: str, width: int) -> None:
    """Counted, chosen and grouped signs add up; empty tests count nothing; no bound is endless."""
    assert re2.compile(regex)
    assert widest(regex) == width


@pytest.mark.parametrize("regex", [r"\Qa+\E", "a)", r"\pL", "(?<!a)b"])
def test_what_cannot_be_read_has_no_bound(regex: str) -> None:
    """Syntax that is not known makes a search go as far as it may, never shorter."""
    assert widest(regex) == ENDLESS


@pytest.mark.parametrize("row", ROWS)
def test_no_example_is_wider(row: Pattern) -> None:
    """The width of a row is at least that of everything it matches in its examples."""
    regex = re2.compile(row.regex)
    for marked in row.match:
        for hit in regex.finditer(marked.replace("«", "").replace("»", "")):
            assert len(hit.group()) <= widest(row.regex)


@pytest.mark.parametrize("row", FOUND)
def test_found_at_every_edge(row: Pattern) -> None:
    """A row's example is found where stretches meet, in a text that is looked at in parts."""
    text = row.match[0].replace("«", "").replace("»", "")
    alone = {(hit.kind, hit.end - hit.start) for hit in searched(f"\n\n{text}\n\n") if hit.kind == row.kind}
    assert alone
    for edge in (matching.NARROW_CHUNK, matching.CHUNK):
        for before in (edge - len(text) - 3, edge - len(text) // 2 - 2, edge - 3):
            padded = f"{(FILLER * 99)[:before]}\n\n{text}\n\n{FILLER * 60}"
            found = {(hit.kind, hit.end - hit.start) for hit in searched(padded)}
            assert alone <= found
