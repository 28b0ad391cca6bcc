"""Evasion undone: text as a reader sees it, in plain signs, with the way back to the original offsets.

Look-alikes, full-width and mathematical letters, accents and other scripts' digits become ASCII, one sign for
one; zero-width, bidi and combining characters vanish. What no rule covers stays. The patterns then need to
know one spelling only. Text that is ASCII already costs a single test.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

_DROPPED = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff"
    "\ufe00-\ufe0f\U000e0100-\U000e01ef\u0300-\u036f]+"
)
_CACHED_RUN = 4  # longer runs are words and sentences of other scripts, which do not recur

_LOOK_ALIKES = {  # Unicode TR39 confusables of ASCII signs that NFKD leaves alone
    "a": "аαɑᴀ",
    "b": "вβɓʙ",
    "c": "сϲƈᴄ",
    "d": "ԁδđɖɗᴅ",
    "e": "еёεξɘəɛᴇ",
    "f": "ғƒ",
    "g": "ɡɠɢ",
    "h": "һнħɦʜ",
    "i": "іїιıɨɪ",
    "j": "јʝᴊ",
    "k": "кκƙᴋ",
    "l": "ӏłɭʟǀ∣",
    "m": "мɱᴍ",
    "n": "пηɲɳɴƞ",
    "o": "оοσøɵᴏ",
    "p": "рρƥᴘ",
    "q": "ԛɋ",
    "r": "гɹɾʀ",
    "s": "ѕßʂ",
    "t": "тτŧƭʈᴛ",
    "u": "цυʉᴜ",
    "v": "ѵνʋᴠ",
    "w": "ԝшωᴡ",
    "x": "хχ",
    "y": "уγʏƴ",
    "A": "АΑ",
    "B": "ВΒ",
    "C": "С",
    "E": "ЕΕ",
    "H": "НΗ",
    "I": "ІΙ",
    "J": "Ј",
    "K": "КΚ",
    "M": "МΜ",
    "O": "ОΟØ",
    "P": "РΡ",
    "S": "Ѕ",
    "T": "ТΤ",
    "X": "ХΧ",
    "Y": "УΥ",
    "Z": "Ζ",
    "N": "Ν",
    "L": "Ł",
    "D": "Đ",
    "z": "ʐᴢ",
    "/": "∕⁄",
    ":": "∶",
    ",": "‚",
    ".": "․。",
    "-": "−",
    "'": "‘’‛′‹›ʼ՚",
    '"': "“”„‟″«»",
    "\n": "\u2028\u2029\u0085",
}

_DECOMPOSED = (  # ranges whose characters are ASCII letters, digits or signs in another dress
    (0x00A0, 0x0250), (0x1D00, 0x1F00), (0x2000, 0x2190), (0x2460, 0x2500), (0x3000, 0x3001),
    (0xFF01, 0xFF5F), (0x1D400, 0x1D800), (0x1F110, 0x1F150), (0x1F1E6, 0x1F200),
)  # fmt: skip
_ENCLOSED = (  # squared, negative circled and flag letters: 26 each, without a decomposition
    0x1F130, 0x1F150, 0x1F170, 0x1F1E6,
)  # fmt: skip
_DIGIT_ZEROS = (  # scripts whose ten digits follow each other from here
    0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0E50,
    0x0ED0, 0x0F20, 0x1040, 0x17E0, 0x1810,
)  # fmt: skip


Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Folded:
    """A text in plain signs, as bytes and as text (offsets agree), and the way back.

    `cuts` are the places where characters vanished, `removed` how many had vanished until there. `unfolded` says
    whether there are characters that stand for no ASCII sign.
    """

    plain: bytes
    text: str
    cuts: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    unfolded: bool = False

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The half-open span of the original text that became `start:end` of the folded one."""
        if not self.cuts:
            return start, end
        return self._before(start), self._before(end - 1) + 1

    def _before(self, place: int) -> int:
        index = bisect_right(self.cuts, place)
        return place + (self.removed[index - 1] if index else 0)


class _Noted(str):
    """A text that is being folded; the encoder's error handler notes in it what vanishes."""

    __slots__ = ("dropped",)

    def __new__(cls, text: str) -> _Noted:
        """`text`, of which nothing has vanished yet."""
        noted = super().__new__(cls, text)
        noted.dropped = []
        return noted

    dropped: list[Span]


def fold(text: str) -> Folded:
    """`text` folded; any string at all is accepted, lone surrogates included."""
    if text.isascii():
        return Folded(text.encode("ascii"), text)
    plain, dropped = _dense(text) if _is_dense(text) else _sparse(text)
    unfolded = plain.count(b"?") > text.count("?")
    cuts: list[int] = []
    removed: list[int] = []
    gone = 0
    for start, end in dropped:
        cuts.append(start - gone)
        gone += end - start
        removed.append(gone)
    return Folded(plain, plain.decode("ascii"), tuple(cuts), tuple(removed), unfolded)


def _is_dense(text: str) -> bool:
    """Whether so much of a text is beyond ASCII that run by run would take longer than all at once."""
    return len(text.encode("utf-8", "surrogatepass")) - len(text) > len(text) // 4


def _dense(text: str) -> tuple[bytes, list[Span]]:
    """The folded text and the spans that vanished, all at once."""
    return _folded_run.__wrapped__(text), [found.span() for found in _DROPPED.finditer(text)]


def _sparse(text: str) -> tuple[bytes, list[Span]]:
    """The same, where ASCII is skipped at the speed of a copy."""
    noted = _Noted(text)
    return noted.encode("ascii", _scheme()), noted.dropped


def visible(text: str) -> str:
    """`text` without the characters that vanish in folding: its offsets are those of the folded text."""
    return _DROPPED.sub("", text)


@cache
def _scheme() -> str:
    """The folding as an error handler of the ASCII encoder, which skips plain text at the speed of a copy."""
    codecs.register_error("duework-fold", _fold_run)
    return "duework-fold"


def _fold_run(error: UnicodeError) -> tuple[bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    start, end, text = error.start, error.end, error.object
    run = text[start:end]
    plain = _folded_run(run) if len(run) <= _CACHED_RUN else _folded_run.__wrapped__(run)
    if len(plain) < len(run) and isinstance(text, _Noted):
        text.dropped += (found.span() for found in _DROPPED.finditer(text, start, end))
    return plain, end


@lru_cache(4096)
def _folded_run(run: str) -> bytes:
    """A run of characters beyond ASCII: what vanishes is gone, what stands for an ASCII sign is that sign."""
    return _DROPPED.sub("", run).translate(_table()).encode("ascii", "replace")


@cache
def _table() -> Mapping[int, str]:
    """Code point to the one ASCII sign it stands for."""
    table = {code: sign for code in _decomposed_codes() if (sign := _ascii_of(chr(code)))}
    for first in _ENCLOSED:
        table |= {first + place: chr(ord("A") + place) for place in range(26)}
    for zero in _DIGIT_ZEROS:
        table |= {zero + digit: str(digit) for digit in range(10)}
    table |= {0xE0000 + code: chr(code) for code in range(0x20, 0x7F)}  # tag characters: invisible ASCII
    table |= dict.fromkeys((0x1680, 0x205F, 0x2800, *range(0x2000, 0x200B)), " ")
    table |= dict.fromkeys((*range(0x2010, 0x2016), 0xFE58, 0xFE63, 0xFF0D), "-")
    return table | {ord(sign): plain for plain, signs in _LOOK_ALIKES.items() for sign in signs}


def _decomposed_codes() -> list[int]:
    return [code for first, last in _DECOMPOSED for code in range(first, last)]


def _ascii_of(sign: str) -> str:
    """The ASCII sign that the compatibility decomposition is, or is but for marks, brackets and dots."""
    parts = [part for part in unicodedata.normalize("NFKD", sign) if not unicodedata.combining(part)]
    plain = parts if len(parts) == 1 else [part for part in parts if part not in "()."]
    return plain[0] if len(plain) == 1 and plain[0].isascii() else ""
