"""Every pattern in one pass: an RE2 set says which of them occur, and only those are then looked up.

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

SET_MEMORY = 64 << 20
"""Bytes that a set's automaton may grow to. States are built as texts need them: ordinary text needs a few
megabytes. With RE2's default of 8 MiB the set would be thrown away and rebuilt all the time."""

PATTERN_MEMORY = 8 << 20
"""The same for the search of one pattern, RE2's default; beyond it RE2 goes on without an automaton."""

CHUNK = 2_048
"""Matches that begin in one stretch of this many characters are sought together, so that a pattern which occurs
once in a long text is not looked for in all of it."""

OVERLAP = 640
"""How far beyond its chunk a match may run and still be noticed; longer patterns have a short `trigger`."""

LONGEST = 20_480
"""The same for values with a trigger. No search goes to the end of a text: what is not there would be sought again
from every chunk."""

EDITIONS = 4
"""How many are kept compiled: a process has its own, and a back-test one more."""

_ALWAYS = rb"\z"
_BOUNDS = re.compile(r"(?<!\\)\{(\d+),(\d+)\}")
_COUNTED = 3  # up to fewer than this, repetitions are counted in the set as well

Span = tuple[int, int]
Search = Callable[[bytes, int, int], list[Span]]
"""RE2's own search: the spans of the leftmost match and its groups between two offsets, (-1, -1) for none."""


class Entry(NamedTuple):
    """A pattern, its searches, and its exact test: `trigger` finds what the set looks for, the context where there
    is one."""

    row: Pattern
    value: Search
    trigger: Search
    check: Check


@dataclass(frozen=True, slots=True)
class Matcher:
    """The compiled patterns of one category; index 0 of the set is the sentinel."""

    entries: tuple[Entry, ...]
    any_of: Any

    def occurring(self, plain: bytes) -> Iterator[tuple[Entry, int, int]]:
        """The patterns of which something begins between two offsets of `plain`, and those offsets."""
        length = len(plain)
        if length <= CHUNK + OVERLAP:
            for entry in self._in(plain):
                yield entry, 0, length
            return
        for start in range(0, length, CHUNK):
            for entry in self._in(plain[start : start + CHUNK + OVERLAP]):
                yield entry, start, start + CHUNK

    def _in(self, plain: bytes) -> list[Entry]:
        found = self.any_of.Match(plain)
        if not found or 0 not in found:
            raise GateUnavailable("the gate's matcher ran out of memory; nothing passes unjudged")
        return [self.entries[index - 1] for index in found if index] if len(found) > 1 else []


def spans(search: Search, plain: bytes, start: int, last: int) -> list[Span]:
    """The matches that begin between `start` and `last`, one after the other."""
    until = min(last + OVERLAP, len(plain))
    found: list[Span] = []
    while start < last:
        span = search(plain, start, until)[0]
        if span[0] < 0 or span[0] >= last:
            break
        found.append(span)
        start = max(span[1], span[0] + 1)
    return found


def matcher(name: str) -> Matcher:
    """The matcher of "pii", of "injection" with the signs of evasion, or of injection as "written", compiled at
    first use of the edition that is judged by. Text for the last is UTF-8."""
    return compiled(name, edition())


@lru_cache(3 * EDITIONS)
def compiled(name: str, of: Edition) -> Matcher:
    """The matcher of that name for the rows of an edition."""
    any_of = re2.Set.SearchSet(_options(SET_MEMORY, name))
    any_of.Add(_ALWAYS)
    entries = []
    for row in (row for row in of.rows if _matcher_of(row) == name):
        value = _search(row.regex, name)
        trigger = row.trigger or row.context
        entries.append(Entry(row, value, _search(trigger, name) if trigger else value, CHECKS[row.check]))
        any_of.Add(_relaxed(trigger or row.regex).encode())
    any_of.Compile()
    return Matcher(tuple(entries), any_of)


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


def _matcher_of(row: Pattern) -> str:
    return "written" if row.written else "pii" if row.category == "pii" else "injection"


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
