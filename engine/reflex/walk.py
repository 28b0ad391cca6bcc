"""A JSON value as one text: all its strings, numbers and keys, joined once, each offset traceable.

Pieces are separated by a sign that no pattern crosses, so a finding ends in the piece it began in. A member's
key stands before its value and is context for it (`"ssn": 123456789`), as is a list's key for each of its
items. The walk keeps its own stack, so depth is no limit. Exempt tokens are left out: the text on their two
sides becomes two pieces, and nothing can be matched across one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.errors import ValidationFailed

SEPARATOR = "\0\n"
"""NUL ends every match, the newline every gap; raw NULs in strings are scanned as spaces."""

SMALL = 1_000_000
"""Numbers below this are too short to be any kind of personal data."""

_HUGE = 1e40  # and numbers from here on too long
_LABEL_LIMIT = 64  # characters of a key that count as context for the items of its list
_TOKEN = re.compile("\ue000[^\ue000\ue001]*\ue001")

Exempt = Callable[[str], bool]


class Path(NamedTuple):
    """The way to a value: the container's path and the key or index in it; None is the root."""

    parent: Path | None
    step: str | int


class Piece(NamedTuple):
    """A stretch of the joined text: where it begins and ends there, where it begins in its string, and whose string
    it is."""

    joined: int
    end: int
    offset: int
    path: Path | None
    key: bool


@dataclass(slots=True)
class Joined:
    """The text of a value, growing while it is walked; then `text` and the pieces in its order."""

    parts: list[str] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    length: int = 0

    @property
    def text(self) -> str:
        """All parts as one."""
        return "".join(self.parts)

    def add(self, text: str) -> None:
        """Text that belongs to no piece: separators and labels."""
        self.parts.append(text)
        self.length += len(text)

    def add_piece(self, text: str, path: Path | None, key: bool, exempt: Exempt | None) -> None:
        """`text`, without its exempt tokens, as one piece or several."""
        if "\0" in text:
            text = text.replace("\0", " ")
        if exempt and "\ue000" in text:
            for offset, part in _without_tokens(text, exempt):
                self.pieces.append(Piece(self.length, self.length + len(part), offset, path, key))
                self.add(part + SEPARATOR)
        else:
            self.pieces.append(Piece(self.length, self.length + len(text), 0, path, key))
            self.add(text)

    def home(self, start: int, end: int) -> tuple[Piece, int, int] | None:
        """The piece in which `start:end` of the text ends, and what of it lies there; None for what lies between
        pieces: a list's key repeated for an item, which is found where it stands."""
        index = bisect_right(self.pieces, end - 1, key=_start) - 1
        if index < 0 or self.pieces[index].end <= start:
            return None
        piece = self.pieces[index]
        return piece, max(start, piece.joined), min(end, piece.end)


def join(value: Any, exempt: Exempt | None = None) -> Joined:
    """All text in `value`, which may be any JSON value. Raises ValidationFailed for bytes and the like: what cannot be
    read must not pass for clean."""
    joined = Joined()
    stack: list[tuple[Any, Path | None, str]] = [(value, None, "")]
    while stack:
        node, path, label = stack.pop()
        if path and isinstance(path.step, str):
            joined.add_piece(path.step, path, True, exempt)
            joined.add(": ")
        elif label:
            joined.add(label)
        if isinstance(node, str):
            joined.add_piece(node, path, False, exempt)
        elif isinstance(node, Mapping):
            stack += [(member, Path(path, str(key)), "") for key, member in reversed(list(node.items()))]
        elif isinstance(node, list | tuple):
            inherited = f"{path.step[-_LABEL_LIMIT:]}: " if path and isinstance(path.step, str) else label
            stack += [(node[index], Path(path, index), inherited) for index in range(len(node) - 1, -1, -1)]
        elif node is not None and not isinstance(node, int | float):
            raise ValidationFailed(f"the gate judges JSON values, and a {type(node).__name__} is none")
        elif number := digits(node):
            joined.add_piece(number, path, False, None)
        joined.add(SEPARATOR)
    return joined


def digits(node: Any) -> str:
    """A number as the text that is scanned: whole numbers from `SMALL` on, "" for anything else."""
    if isinstance(node, bool) or not isinstance(node, int | float) or not SMALL <= abs(node) < _HUGE:
        return ""
    return str(abs(int(node))) if node == int(node) else ""


def _without_tokens(text: str, exempt: Exempt) -> Iterator[tuple[int, str]]:
    """The stretches of `text` between its exempt tokens: (offset, stretch)."""
    done = 0
    for token in _TOKEN.finditer(text):
        if exempt(token[0]):
            yield done, text[done : token.start()]
            done = token.end()
    yield done, text[done:]


def _start(piece: Piece) -> int:
    return piece.joined
