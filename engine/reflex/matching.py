"""All patterns at once: RE2 sets say which of them occur in a stretch of text, and only those are then looked up.

Text is matched as Latin-1 bytes with other characters replaced, so that an offset in the bytes is an offset
in the text. RE2 is linear in the text whatever it holds. A set that ran out of memory would answer "nothing
found"; a pattern that always matches is in every set, and its absence is a failure, so the gate fails
closed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import re2
from re2 import _re2

from engine.errors import GateUnavailable
from engine.reflex.catalogue import Pattern
from engine.reflex.checks import CHECKS, Check
from engine.reflex.edition import Edition, edition
from engine.reflex.width import widest

SET_MEMORY = 64 << 20
"""Bytes that a set's automaton may grow to. States are built as texts need them: ordinary text needs a few
megabytes. With RE2's default of 8 MiB the set would be thrown away and rebuilt all the time."""

PATTERN_MEMORY = 8 << 20
"""The same for the search of one pattern, RE2's default; beyond it RE2 goes on without an automaton."""

CHUNK = 2_048
"""Matches that begin in one stretch of this many characters are sought together, so that a pattern which occurs
once in a long text is not looked for in all of it."""

NARROW_CHUNK = 512
NARROW = 96
"""The same for patterns of which no match, or no trigger, is wider than `NARROW`: most kinds of personal data. The
less is searched exactly the better, and with a short overlap short stretches cost little."""

OVERLAP = 640
"""How far beyond its chunk a match may run and still be noticed; longer patterns have a short `trigger`."""

LONGEST = 20_480
"""The same for values with a trigger. No search goes to the end of a text: what is not there would be sought again
from every chunk."""

TOGETHER = 22
"""Patterns in one set. A set's automaton has a state for every combination of what its patterns are in the midst of:
with 61 patterns 100 KB cost 5.0 ms and 41 ms at first sight, when the states are made; with three sets of a third each
2.8 and 16 ms, with eight sets 3.9 and 9 ms (loaded machine)."""

SHORT = 1_024
"""Characters up to which a text is looked at with one set all the same: each costs 1 to 4 µs before it begins."""

EDITIONS = 4
"""How many are kept compiled: a process has its own, and a back-test one more."""

_ALWAYS = rb"\z"
_BOUNDS = re.compile(r"(?<!\\)\{(\d+),(\d+)\}")
_COUNTED = 3  # up to fewer than this, repetitions are counted in the set as well

Span = tuple[int, int]
Search = Callable[[bytes, int, int], list[Span]]
"""RE2's own search: the spans of the leftmost match and its groups between two offsets, (-1, -1) for none."""


class Entry(NamedTuple):
    """A pattern, its searches and how far they go, and its exact test.

    `trigger` finds what the set looks for: the context where there is one. Of like findings that of the first in
    `order` stays: one that words name comes before others.
    """

    order: int
    row: Pattern
    value: Search
    trigger: Search
    width: int
    trigger_width: int
    check: Check


Place = tuple[Entry, int, int]


class Part(NamedTuple):
    """Patterns in one set, whose index 0 is the sentinel, and the stretches that are looked at together."""

    any_of: Callable[[bytes], list[int]]
    entries: tuple[Entry, ...]
    chunk: int
    overlap: int

    def occurring(self, plain: bytes) -> list[Place]:
        """The patterns of which something begins between two offsets of `plain`, and those offsets."""
        length = len(plain)
        if length <= self.chunk + self.overlap:
            return self._in(plain, 0, length)
        places: list[Place] = []
        for start in range(0, length, self.chunk):
            last = start + self.chunk
            places += self._in(plain[start : last + self.overlap], start, last)
        return places

    def _in(self, plain: bytes, start: int, last: int) -> list[Place]:
        found = self.any_of(plain)
        if 0 not in found:
            raise GateUnavailable("the gate's matcher ran out of memory; nothing passes unjudged")
        if len(found) == 1:
            return []
        return [(self.entries[index - 1], start, last) for index in found if index]


@dataclass(frozen=True, slots=True)
class Matcher:
    """The compiled patterns of one category: in parts, and all together for short texts."""

    parts: tuple[Part, ...]
    together: Part

    def occurring(self, plain: bytes) -> list[Place]:
        """The patterns of which something begins between two offsets of `plain`, and those offsets."""
        if len(plain) <= SHORT:
            return self.together.occurring(plain)
        return [place for part in self.parts for place in part.occurring(plain)]


def spans(search: Search, width: int, plain: bytes, start: int, last: int) -> list[Span]:
    """The matches, no wider than `width`, that begin between `start` and `last`, one after the other."""
    until = min(last + width, len(plain))
    found: list[Span] = []
    while start < last:
        span = search(plain, start, until)[0]
        if span[0] < 0 or span[0] >= last:
            break
        found.append(span)
        start = max(span[1], span[0] + 1)
    return found


def matcher(name: str) -> Matcher:
    """The matcher of "pii", of "injection", of the signs of "evasion", or of injection as "written", compiled at
    first use of the edition that is judged by. Text for the last is UTF-8."""
    return compiled(name, edition())


@lru_cache(4 * EDITIONS)
def compiled(name: str, of: Edition) -> Matcher:
    """The matcher of that name for the rows of an edition."""
    rows = sorted((row for row in of.rows if _matcher_of(row) == name), key=_needs_no_words)
    entries = [_entry(order, row, name) for order, row in enumerate(rows)]
    narrow = [entry for entry in entries if entry.trigger_width <= NARROW and name == "pii"]
    wide = [entry for entry in entries if entry.trigger_width > NARROW or name != "pii"]
    parts = [_part(some, name, NARROW_CHUNK) for some in _shared_out(narrow)]
    parts += [_part(some, name, CHUNK) for some in _shared_out(wide)]
    return Matcher(tuple(parts), parts[0] if len(parts) == 1 else _part(entries, name, CHUNK))


def _shared_out(entries: list[Entry]) -> Iterator[list[Entry]]:
    """`entries` in as few lists of like length as `TOGETHER` allows."""
    count = -(-len(entries) // TOGETHER)
    for index in range(count):
        yield entries[index * len(entries) // count : (index + 1) * len(entries) // count]


def _part(entries: list[Entry], name: str, chunk: int) -> Part:
    any_of = re2.Set.SearchSet(_options(SET_MEMORY, name))
    any_of.Add(_ALWAYS)
    for entry in entries:
        any_of.Add(_relaxed(entry.row.trigger or entry.row.context or entry.row.regex).encode())
    any_of.Compile()
    overlap = max(entry.trigger_width for entry in entries)
    return Part(
        any_of._set.Match, tuple(entries), chunk, overlap
    )  # the wrapper's own Match costs more than a set


def _entry(order: int, row: Pattern, name: str) -> Entry:
    value, trigger = _search(row.regex, name), row.trigger or row.context
    most = LONGEST if row.trigger and not row.whole else OVERLAP
    if name == "written":  # whose text is UTF-8
        return Entry(order, row, value, value, most, most, CHECKS[row.check])
    width = min(widest(row.regex) + 1, most)
    if not trigger:
        return Entry(order, row, value, value, width, width, CHECKS[row.check])
    return Entry(
        order, row, value, _search(trigger, name), width, min(widest(trigger) + 1, OVERLAP), CHECKS[row.check]
    )


def _relaxed(regex: str) -> str:
    """`regex` without upper bounds: it finds all that `regex` finds, with an automaton that has no states to count.

    Counting makes the set's automaton too large for the processor's caches, and then each character waits for
    memory. What is found too much here, the exact search finds out.
    """
    return _BOUNDS.sub(_unbounded, regex)


def _unbounded(bounds: re.Match[str]) -> str:
    least, most = int(bounds[1]), int(bounds[2])
    if most < _COUNTED:
        return bounds[0]
    return "*" if least == 0 else "+" if least == 1 else f"{{{least},}}"


def _needs_no_words(row: Pattern) -> bool:
    return not row.context


def _matcher_of(row: Pattern) -> str:
    return "written" if row.written else row.category


def _search(regex: str, name: str) -> Search:
    """RE2's search without the wrapper's match objects, which cost more than the match."""
    compiled = _re2.RE2(regex.encode(), _options(PATTERN_MEMORY, name))
    if not compiled.ok():
        raise re2.error(f"{compiled.error()} in {regex}")
    return partial(compiled.Match, _re2.RE2.Anchor.UNANCHORED)


def _options(memory: int, name: str) -> Any:
    encodings = re2.Options.Encoding
    options = re2.Options()
    options.encoding = encodings.UTF8 if name == "written" else encodings.LATIN1
    options.max_mem = memory
    options.log_errors = False
    return options
