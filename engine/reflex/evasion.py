"""Text hidden by an encoding brought back, with the way to where it stands.

A row of `patterns/evasion.toml` notices that a stretch of text may say something else than it seems to, and
names the function here that undoes it. Encodings of a whole stretch (base64, hexadecimal, character codes)
give a text of their own, whose findings cover the stretch. Tricks within a text (entities, spaced letters, leet)
give the text around them as a reader sees it, each sign with its place. The work is linear in the text.
"""

from __future__ import annotations

import base64
import codecs
import html
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType

from engine.reflex.fold import fold

_READABLE = 0.9  # the share of plain signs from which decoded bytes count as text
_PLAIN = bytes([9, 10, 13, *range(32, 127)])
_SHORTEST = 8
_BEFORE = 64  # signs before a run of base64 that are looked at as part of it

_NUMBERS = re.compile(r"[01]{8}|\d{2,3}", re.ASCII)
_PAIRS = re.compile(r"(?:\\x|0x|%u00|\\u00)|[ :,]", re.ASCII | re.IGNORECASE)
_ENTITY = re.compile(r"(&(?:#\d{2,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,10});)", re.ASCII)
_MARKUP = re.compile(r"(<!--[^>\n]{0,80}-->|</?[A-Za-z]{1,6}/?>|\*\*|~~|`|\\(?=[A-Za-z]))", re.ASCII)
_ESCAPE = re.compile(r"(%[0-9A-Fa-f]{2}|\+)", re.ASCII)
_SPACED = re.compile(r"\b[A-Za-z0-9](?:[ .*_|,/~-]{1,3}[A-Za-z0-9]\b){8,}", re.ASCII)
_LETTER = re.compile(r"([ .*_|,/~-]{0,3})([A-Za-z0-9])", re.ASCII)
_LEET_WORD = re.compile(r"[0-9@$!|+]*[A-Za-z][A-Za-z0-9@$!|+]*", re.ASCII)
_LEET = str.maketrans("013457890@$!|+", "oieastbgoasiit")
_LEET_L = str.maketrans("013457890@$!|+", "oleastbgoasllt")


@dataclass(frozen=True, slots=True)
class View:
    """A text that was brought to light; sign i of it stood in `place(i)`, or all of it in `start:end`."""

    text: str
    start: int
    end: int
    place: Callable[[int], tuple[int, int]] | None = None

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Where `start:end` of the view stood in the text that was looked at."""
        if not self.place:
            return self.start, self.end
        first, last = self.place(start), self.place(end - 1)
        return min(first[0], last[0]), max(first[1], last[1])


Undo = Callable[[str, int, int], Iterator[View]]


def _decoded(raw: bytes, start: int, end: int) -> Iterator[View]:
    """A view of `raw` if it reads like a text."""
    if len(raw) >= _SHORTEST and len(raw.translate(None, _PLAIN)) <= (1 - _READABLE) * len(raw):
        yield View(raw.decode("ascii", "replace").replace("\ufffd", "?"), start, end)


def from_base64(text: str, start: int, end: int) -> Iterator[View]:
    """Base64 in either alphabet, padded or not; text is in capital and small letters then.

    What is noticed is a run without signs; a sign may stand before it, as part of the code or of a path.
    """
    if text[start:end].islower() or text[start:end].isupper():
        return
    joined = start
    while joined and start - joined < _BEFORE and (text[joined - 1].isalnum() or text[joined - 1] in "+/_-"):
        joined -= 1
    for first in {start, joined}:
        value = text[first:end].rstrip("=").replace("-", "+").replace("_", "/")
        value = value[: len(value) - (len(value) % 4 == 1)]
        yield from _decoded(base64.b64decode(value + "=" * (-len(value) % 4)), first, end)


def from_hex(text: str, start: int, end: int) -> Iterator[View]:
    """Pairs of hexadecimal digits, with or without escapes and separators."""
    digits = _PAIRS.sub("", text[start:end])
    yield from _decoded(bytes.fromhex(digits[: len(digits) // 2 * 2]), start, end)


def from_numbers(text: str, start: int, end: int) -> Iterator[View]:
    """Character codes, binary or decimal."""
    codes = [int(code, 2 if len(code) == 8 else 10) for code in _NUMBERS.findall(text, start, end)]
    yield from _decoded(bytes(code for code in codes if code < 256), start, end)


def from_percent(text: str, start: int, end: int) -> Iterator[View]:
    """Percent-encoding, plus signs as spaces; what stands before it belongs to it."""
    start = (
        max(
            text.rfind(" ", max(0, start - 80), start),
            text.rfind("\n", max(0, start - 80), start),
            start - 80,
        )
        + 1
    )
    yield _spliced(text, max(start, 0), end, _ESCAPE, _unescaped)


def from_entities(text: str, start: int, end: int) -> Iterator[View]:
    """HTML character references."""
    yield _spliced(text, start, end, _ENTITY, html.unescape)


def from_markup(text: str, start: int, end: int) -> Iterator[View]:
    """Tags, comments and emphasis taken out."""
    yield _spliced(text, start, end, _MARKUP, lambda _: "")


def from_spaced(text: str, start: int, end: int) -> Iterator[View]:
    """Letters that stand apart joined; where the gaps differ, the wide ones are spaces."""
    shown: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for run in _SPACED.finditer(text, start, end):
        letters = _LETTER.findall(text, run.start(), run.end())
        narrow = min(len(gap) for gap, _ in letters[1:])
        place = run.start()
        for gap, letter in letters:
            if shown and len(gap) > narrow:
                shown.append(" ")
                starts.append(place)
                ends.append(place + len(gap))
            place += len(gap) + 1
            shown.append(letter)
            starts.append(place - 1)
            ends.append(place)
        shown.append("\n")
        starts.append(place)
        ends.append(place)
    if shown:
        yield View("".join(shown), start, end, lambda sign: (starts[sign], ends[sign]))


def from_leet(text: str, start: int, end: int) -> Iterator[View]:
    """Digits and signs in words read as letters; a one is an i or an l."""
    for table in (_LEET, _LEET_L):
        read = _LEET_WORD.sub(lambda word, table=table: word[0].translate(table), text[start:end])  # type: ignore[misc]  # mypy sees no default of a lambda
        yield View(read, start, end, lambda sign: (start + sign, start + sign + 1))


def from_rot13(text: str, start: int, end: int) -> Iterator[View]:
    """Letters turned by thirteen places."""
    read = codecs.encode(text[start:end], "rot13")
    yield View(read, start, end, lambda sign: (start + sign, start + sign + 1))


def from_reversed(text: str, start: int, end: int) -> Iterator[View]:
    """Read from the end."""
    yield View(text[start:end][::-1], start, end, lambda sign: (end - 1 - sign, end - sign))


def _unescaped(escape: str) -> str:
    if escape == "+":
        return " "
    code = int(escape[1:], 16)
    return chr(code) if code < 127 else "?"


def _spliced(text: str, start: int, end: int, pattern: re.Pattern[str], known: Callable[[str], str]) -> View:
    """The stretch with every match of `pattern`, which is one group, replaced by at most one sign."""
    pieces = pattern.split(text[start:end])
    read = {found: known(found)[:1] for found in set(pieces[1::2])}
    plain = {found: sign if sign.isascii() else _plain(sign) for found, sign in read.items()}
    shown = pieces.copy()
    shown[1::2] = [plain[found] for found in pieces[1::2]]
    stood = list(accumulate(map(len, pieces), initial=start))
    stands = list(accumulate(map(len, shown), initial=0))

    def place(sign: int) -> tuple[int, int]:
        piece = bisect_right(stands, sign) - 1
        if piece % 2:
            return stood[piece], stood[piece + 1]
        return stood[piece] + sign - stands[piece], stood[piece] + sign - stands[piece] + 1

    return View("".join(shown), start, end, place)


def _plain(sign: str) -> str:
    """A sign beyond ASCII in the plain sign it looks like, if any: "" for invisible ones."""
    return fold(sign).text


WHOLE = frozenset({"base64", "hex", "numbers", "percent"})
"""Ways that concern the stretch which was noticed; all others concern the text around it."""

UNDO: Mapping[str, Undo] = MappingProxyType({
    "base64": from_base64, "hex": from_hex, "numbers": from_numbers, "percent": from_percent,
    "entities": from_entities, "markup": from_markup, "spaced": from_spaced, "leet": from_leet,
    "rot13": from_rot13, "reversed": from_reversed,
})  # fmt: skip
"""The ways back that pattern rows name."""
