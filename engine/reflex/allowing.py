"""False positives that people have marked: which findings they let pass, and which patterns are too wide for that.

A mark is the keyed digest of one exact value, or an RE2 expression for the whole of a value; of one task or of all, of
one kind or of any, with or without an end. It pardons a finding only if every member agrees.

The rule about patterns: one that lets pass what nobody has looked at is refused. The witnesses are circles of values
made of each example in the pattern data (other digits, other letters, the same form), for every kind that the mark is
for, and some well-known forms alone. A pattern that matches two of a circle, or one that stands alone, would allow more
than the false positive that somebody has seen, as `\\d{3}-\\d{2}-\\d{4}` and `.+@.+` do; so would one that matches the
empty text. What is told apart by its own text passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from uuid import UUID

import re2
from re2 import _re2

from engine.reflex.catalogue import Pattern
from engine.reflex.checksums import IBAN_LENGTHS
from engine.reflex.custom import regex_fault
from engine.reflex.detection import hits
from engine.reflex.digests import Match, digest
from engine.reflex.edition import Edition, edition
from engine.reflex.findings import UNKNOWN

LONGEST_PATTERN = 500
"""Characters of a pattern, at most."""
LARGEST_PROGRAM = 2_000
"""Instructions that RE2 may need for a pattern: what it takes to compare it with a value grows with both."""
LONGEST_VALUE = 20_480
"""Characters of a value, at most: nothing longer is found as one."""

FURTHER: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "email": tuple(
            f"someone.else@another-host.{end}" for end in ("com", "net", "org", "io", "de", "fr", "co.uk")
        ),
        "iban": tuple(country + "7421" + "9" * (length - 6) for country, length in IBAN_LENGTHS.items()),
        "credit_card": (
            *(
                "4539578763621486",
                "5425233430109903",
                "2221003652718814",
                "374245455400126",
                "6011000991300009",
            ),
        ),
        "phone": (
            *(
                "+1 415 867 2671",
                "+44 20 8759 3617",
                "+49 30 90182034",
                "+33 1 70 36 39 50",
                "+91 98765 01234",
            ),
            *("+1 (415) 867-2671", "+14158672671", "(415) 867-2671", "415-867-2671", "4158672671"),
        ),
    }
)
"""Witnesses that stand alone: the well-known countries, networks and domains, which no shifting of signs makes."""

_SHIFTS = range(1, 10)

TOGETHER = 64
"""Patterns that are compared with a value in one pass."""
SET_MEMORY = 16 << 20
"""Bytes that the automaton of as many may grow to."""
_ANY = "(?s).*"  # in every set, so that one that has run out of memory is told from one that finds nothing


@dataclass(frozen=True, slots=True)
class Allowance:
    """One mark that counts. `until` is an instant of the caller's clock in seconds, None for no end.

    `tasks` are the names of one task: its id and its name; () is any task. `kind` None is any kind or family. Exactly
    one of `digest` and `pattern` is given.
    """

    kind: str | None
    digest: str | None
    pattern: str | None
    tasks: tuple[UUID | str, ...] = ()
    until: float | None = None


class Allowed:
    """Marks in the form in which findings are compared with them; never changes."""

    __slots__ = ("_digests", "_key", "_patterns", "_sets")

    def __init__(self, marks: Iterable[Allowance] = (), key: bytes = b"") -> None:
        self._key = key
        self._digests: dict[str, list[Allowance]] = {}
        self._patterns: list[Allowance] = []
        for mark in marks:
            if mark.digest is not None:
                self._digests.setdefault(mark.digest, []).append(mark)
            else:
                self._patterns.append(mark)
        self._sets = _sets(tuple(mark.pattern or "" for mark in self._patterns))

    def pardons(self, match: Match, task: UUID | str | None, now: float) -> bool:
        """Whether a mark lets this finding pass at `now`, seconds of the clock that the marks' ends are told in.

        `task` is an id or a name; None is what belongs to no task, for which only marks for any task count.
        """
        if match.category == UNKNOWN:
            return False  # another gate's kind, which nobody here has ever marked
        return any(
            mark.kind in (None, match.kind)
            and (not mark.tasks or task in mark.tasks)
            and (mark.until is None or now < mark.until)
            for mark in self._meant(match.value)
        )

    def _meant(self, value: str) -> Iterator[Allowance]:
        if self._digests:
            yield from self._digests.get(value_digest(self._key, value), ())
        for index in _matching(self._sets, value) if self._sets else ():
            yield self._patterns[index]


def value_digest(key: bytes, value: str) -> str:
    """The digest by which a value is known again; it says nothing of where it stood."""
    return digest(key, "allowed", value)


def value_fault(value: str) -> str:
    """Why a mark for this value would never count; "" where it may. What needs words beside it cannot be known here."""
    if not 0 < len(value) <= LONGEST_VALUE:
        return f"a value has 1 to {LONGEST_VALUE} characters"
    found = hits(value)
    if not found or any((hit.start, hit.end) == (0, len(value)) for hit in found):
        return ""
    places = ", ".join(f"{hit.kind} at characters {hit.start} to {hit.end}" for hit in found)
    return f"what is allowed is the whole of what is found, and found in it is {places}: give that alone"


def pattern_fault(pattern: str, kind: str | None) -> str:
    """Why this pattern may not be a mark for `kind` (None: for all); "" where it may."""
    if len(pattern) > LONGEST_PATTERN:
        return f"a pattern has at most {LONGEST_PATTERN} characters"
    if not pattern.isascii():
        return "a pattern is ASCII: how wide it is could not be told of other scripts; allow exact values"
    fault = regex_fault(pattern, groups=LONGEST_PATTERN, utf8=True, largest=LARGEST_PROGRAM)
    if fault:
        return fault
    if any(hit.category == "pii" for text in (pattern, pattern.replace("\\", "")) for hit in hits(text)):
        return "it holds such a value itself, and patterns are stored as they are: allow the value instead"
    wide = sorted(name for name, circles in witnesses(edition()).items()
                  if kind in (None, name) and any(_covers(pattern, circle) for circle in circles))  # fmt: skip
    if wide:
        return (
            f"too wide: it also matches other values of the form of {', '.join(wide)}, which nobody has looked at; "
            "name more of what tells yours apart, or allow exact values"
        )
    return ""


@lru_cache(4)
def witnesses(of: Edition) -> dict[str, tuple[frozenset[str], ...]]:
    """For each kind and family, circles of values; treat it as read-only."""
    found: dict[str, set[frozenset[str]]] = {}
    for row in of.rows:
        if row.category != "evasion":
            known = found.setdefault(row.kind, {frozenset([value]) for value in FURTHER.get(row.kind, ())})
            known |= _of_row(row)
    return {kind: tuple(circles) for kind, circles in found.items()}


def _of_row(row: Pattern) -> set[frozenset[str]]:
    """The circles of a row's examples; the examples themselves, where nothing else has their form."""
    values = [text[text.index("«") + 1 : text.rindex("»")] for text in row.match if "«" in text]
    circles = (
        {circle for value in values for circle in _circles(row, value)} if row.category == "pii" else set()
    )
    return circles or {frozenset([value]) for value in values}


def _circles(row: Pattern, value: str) -> Iterator[frozenset[str]]:
    """Other values of the row's form: with other digits and letters throughout, but for the last word, and in what
    counts, which is the digits where they are most, else the second half."""
    letters, digits = sum(map(str.isalpha, value)), sum(map(str.isdigit, value))
    cut = max(value.rfind("."), 0)
    half = len(value) // 2
    for makes in (
        lambda by: _shifted(value, by, letters=True),
        lambda by: _shifted(value[:cut], by, letters=True) + value[cut:],
        lambda by: (
            _shifted(value, by, letters=False)
            if digits >= letters
            else value[:half] + _shifted(value[half:], by, letters=True)
        ),
    ):
        circle = frozenset(
            other for other in map(makes, _SHIFTS) if other != value and _has_form(row.regex, other)
        )
        if circle:
            yield circle


def _covers(pattern: str, circle: frozenset[str]) -> bool:
    """Whether a pattern matches two of the circle, or the one that is all of it."""
    return sum(_matches(pattern, value) for value in circle) >= min(2, len(circle))


def _shifted(text: str, by: int, *, letters: bool) -> str:
    return "".join(_turned(sign, by, letters) for sign in text)


def _turned(sign: str, by: int, letters: bool) -> str:
    """The sign `by` places on in the circle of its like."""
    if "0" <= sign <= "9":
        return str((int(sign) + by) % 10)
    if letters and sign.isascii() and sign.isalpha():
        first = ord("a") if sign.islower() else ord("A")
        return chr(first + (ord(sign) - first + by) % 26)
    return sign


def _has_form(regex: str, value: str) -> bool:
    """Whether the expression finds the whole of `value`, as its match or its group."""
    spans = _compiled(regex, latin=True).Match(
        _re2.RE2.Anchor.UNANCHORED, value.encode("latin-1", "replace"), 0, len(value)
    )
    return (0, len(value)) in (spans[0], spans[-1])


def _matches(pattern: str, value: str) -> bool:
    data = value.encode("utf-8", "replace")
    spans = _compiled(pattern, latin=False).Match(_re2.RE2.Anchor.ANCHOR_BOTH, data, 0, len(data))
    return bool(spans and spans[0] == (0, len(data)))


@lru_cache(4)
def _sets(patterns: tuple[str, ...]) -> tuple[tuple[Any, tuple[str, ...]], ...]:
    """The patterns in sets of TOGETHER, each compared with a value in one pass; the list of a process is read often and
    seldom another."""
    options = re2.Options()
    options.max_mem = SET_MEMORY
    options.log_errors = False
    made = []
    for first in range(0, len(patterns), TOGETHER):
        some = patterns[first : first + TOGETHER]
        together = re2.Set.FullMatchSet(options)
        with suppress(re2.error):  # what has no room in a set, or no place, each compares by itself
            together.Add(_ANY)
            for pattern in some:
                together.Add(pattern)
            together.Compile()
            made.append((together.Match, some))
            continue
        made.append((_none, some))
    return tuple(made)


def _none(_: str) -> list[int]:
    return []


def _matching(sets: Iterable[tuple[Any, tuple[str, ...]]], value: str) -> Iterator[int]:
    """The places of the patterns that match the whole of `value`, one by one where a set has no memory for it."""
    text = value.encode("utf-8", "replace").decode()
    for number, (matching, some) in enumerate(sets):
        found = matching(text)
        if 0 not in found:
            found = [index + 1 for index, pattern in enumerate(some) if _matches(pattern, value)]
        yield from (number * TOGETHER + index - 1 for index in found if index)


@lru_cache(4_096)
def _compiled(regex: str, *, latin: bool) -> Any:
    options = _re2.RE2.Options()
    options.encoding = _re2.RE2.Options.Encoding.LATIN1 if latin else _re2.RE2.Options.Encoding.UTF8
    options.log_errors = False
    return _re2.RE2(regex.encode(), options)
