"""Where a value counts that needs its name beside it: what tells an account number from any other number.

Context is local: the text right before the value, on its line or as a label alone on the line above; and in a
table with a header line, the words at the head of the value's column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.reflex.fold import Folded
from engine.reflex.matching import Entry, Span, spans

_LONGEST = 64  # characters of the longest value that needs context
_HEADER_LIMIT = 2_000  # a longer first line is no header
_LABEL_END = 8  # signs that may stand between a label and the end of its line

_TO_DIGIT = 16  # characters of a value before its first digit, at most

_DIGIT = re.compile(rb"[0-9]")
_HEADER = re.compile(rb"[^\n\0,;|\t]*[,;|\t][^\n\0]*\n")
_LATER_HEADER = re.compile(rb"\0\n[^\n\0,;|\t]*[,;|\t][^\n\0]*\n")
_SEPARATORS = re.compile(r"[,;|\t]", re.ASCII)


def values(folded: Folded, entry: Entry, place: int, last: int, until: int) -> list[Span]:
    """The spans that begin between `place` and `last`, end by `until`, match the value and pass the check.

    Values that need context have a digit.
    """
    plain, search, check = folded.plain, entry.value, entry.check
    until = min(until, len(plain))
    good: list[Span] = []
    while place < last:
        found = search(plain, place, until)
        start, end = found[0]
        if start < 0 or start >= last:
            break
        span = check(folded.text, *(found[-1] if found[-1][0] >= 0 else found[0]))  # a group may be optional
        if span:
            if span[0] < span[1]:
                good.append(span)
            end = span[1]
        elif not entry.row.whole:
            end = (
                0  # a good value may begin inside a hit that failed, unless hits of this row are whole tokens
            )
        place = max(end, start + 1)
        if entry.row.context and not _DIGIT.search(plain, place, until):
            break
    return good


def near(folded: Folded, entry: Entry, first: int, last: int) -> list[Span]:
    """The values that stand after a match of the entry's context, or in a column that it heads.

    Values are rarer than the words: the first value is sought first, and words only from where they may mean it.
    """
    plain, text, reach = folded.plain, folded.text, entry.row.reach
    good: list[Span] = []
    if not _heads(plain, first, last):
        sought = min(last + entry.trigger_width + reach + _LONGEST, len(plain))
        value = entry.value(plain, first, sought)[0][0]
        if value < 0:
            return good
        first = max(first, value - reach - entry.trigger_width)
    headed: dict[int, list[int]] = {}
    for start, end in spans(entry.trigger, entry.trigger_width, plain, first, last):
        if _DIGIT.search(plain, end, end + reach + _TO_DIGIT):
            found = values(folded, entry, end, end + reach, end + reach + _LONGEST)
            good += (span for span in found if _connected(text[end : span[0]]))
        opening = _header_opening(text, start)
        if opening >= 0 and plain.find(b"\n", end, end + _HEADER_LIMIT) >= 0:
            headed.setdefault(opening, []).append(end - 1)
    for opening, places in headed.items():
        value = entry.value(plain, opening, len(plain))[0][0]
        if value >= 0:
            for cell in _cells(text, opening, places, value):
                good += values(folded, entry, *cell, cell[1])
    return good


def _heads(plain: bytes, first: int, last: int) -> bool:
    """Whether a line that may head a table lies between `first` and `last`, or a part of it."""
    if first < _HEADER_LIMIT and _HEADER.match(plain, 0, last + 2 * _HEADER_LIMIT):
        return True
    before = max(0, first - _HEADER_LIMIT)
    if plain.find(b"\0\n", before, last) < 0:  # a tenth of what the expression costs
        return False
    return bool(_LATER_HEADER.search(plain, before, last + 2 * _HEADER_LIMIT))


def _connected(gap: str) -> bool:
    """Whether what lies between the words and the value keeps them together."""
    if "\n" not in gap:
        return True
    label, _, following = gap.partition("\n")
    return (
        len(label.strip()) <= _LABEL_END
        and "\n" not in following
        and "\0" not in gap
        and not _SEPARATORS.search(gap)
    )


def _header_opening(text: str, place: int) -> int:
    """The start of the first line of a text (or of one of several joined ones) if `place` is in it, or -1."""
    opening = text.rfind("\n", max(0, place - _HEADER_LIMIT), place) + 1
    if opening == 0:
        return 0 if place < _HEADER_LIMIT else -1
    return opening if text[opening - 2 : opening] == "\0\n" else -1


def _cells(text: str, opening: int, places: list[int], first: int) -> Iterator[Span]:
    """The cells of the table whose header opens at `opening` in the columns that `places` in it head, from the line
    of `first` on."""
    header_end = text.find("\n", opening)
    separator = _SEPARATORS.search(text, opening, max(header_end, opening))
    if not separator:
        return
    wanted = {text.count(separator[0], opening, place) for place in places}
    start = max(header_end, text.rfind("\n", header_end, first)) + 1
    while 0 < start < len(text) and text[start - 2] != "\0":
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        cells = _split(text, start, end, separator[0])
        yield from (cells[column] for column in wanted if column < len(cells))
        start = end + 1


def _split(text: str, start: int, end: int, separator: str) -> list[Span]:
    """The cells of one line; a separator between double quotes is part of its cell."""
    cells: list[Span] = []
    opening = place = start
    quoted = False
    for piece in text[start:end].split(separator):
        place += len(piece)
        quoted ^= piece.count('"') % 2 == 1
        if not quoted:
            cells.append((opening, place))
            opening = place + 1
        place += 1
    return cells
