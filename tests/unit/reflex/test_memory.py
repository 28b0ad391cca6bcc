"""What was found in a text is remembered by its digest, within bounds."""

from __future__ import annotations

import pytest

from engine.errors import GateUnavailable
from engine.reflex.findings import Hit
from engine.reflex.memory import ENTRIES, HITS, Memory

HIT = Hit("pii", "ssn", "ssn.hyphenated", 0, 3, 0.9, "")


def test_searched_once() -> None:
    """The same text is searched once, another one again."""
    memory, asked = Memory(), []

    def search(text: str) -> list[Hit]:
        asked.append(text)
        return [HIT]

    assert [memory.recall(text, search) for text in ("a", "a", "b", "\ud800")] == [(HIT,)] * 4
    assert asked == ["a", "b", "\ud800"]


def test_bounded() -> None:
    """The oldest half is forgotten when the memory is full; the newest stay."""
    memory = Memory()
    for number in range(3 * ENTRIES):
        memory.recall(str(number), lambda _: [])
    assert len(memory) <= ENTRIES
    assert memory.recall(str(3 * ENTRIES - 1), lambda _: [HIT]) == ()


def test_failures_are_not_remembered() -> None:
    """A matcher that failed is asked again."""
    memory = Memory()

    def fail(text: str) -> list[Hit]:
        raise GateUnavailable("out of memory")

    with pytest.raises(GateUnavailable):
        memory.recall("a", fail)
    assert memory.recall("a", lambda _: [HIT]) == (HIT,)


def test_many_hits_are_bounded() -> None:
    """Texts full of hits push out others, and one alone with too many is searched anew."""
    memory = Memory()
    memory.recall("all", lambda _: [HIT] * HITS)
    assert len(memory) == 0
    for number in range(40):
        memory.recall(str(number), lambda _: [HIT] * (HITS // 16))
        assert len(memory) <= 16
    assert len(memory.recall("39", lambda _: [])) == HITS // 16
