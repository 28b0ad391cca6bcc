"""Which rows the gate judges by: those of the package, and an operator's own beside them or in their place.

The file that DUEWORK_REFLEX_KINDS names is read once in the life of a process, at the first use, so that no caller can
forget it and fall back to less; `prepare` does that at a process's start and proves the file. An edition never changes.
What is compiled or remembered belongs to one edition, by its identity. `judged_by` sets another one for a block of
code (a back-test), in this context alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from engine import settings
from engine.errors import ValidationFailed
from engine.reflex.catalogue import Pattern, patterns
from engine.reflex.custom import Custom, parse_rows

LARGEST_FILE = 262_144
"""Bytes of a file of rows."""


class Edition:
    """Rows that are looked for together; compared by identity."""

    __slots__ = ("families", "kinds", "own", "rows", "source")

    def __init__(self, custom: tuple[Custom, ...] = (), source: str = "") -> None:
        replaced = {each.row.name for each in custom if each.replaces}
        self.own: tuple[Pattern, ...] = tuple(each.row for each in custom)
        self.rows = tuple(row for row in patterns() if row.name not in replaced) + self.own
        self.source = source
        self.kinds = frozenset(row.kind for row in self.rows if row.category == "pii")
        self.families = frozenset(row.kind for row in self.rows if row.category == "injection")


_CHOSEN: ContextVar[Edition | None] = ContextVar("edition", default=None)


def edition() -> Edition:
    """What is judged by here and now. Raises ValidationFailed for an operator's file that cannot be used."""
    return _CHOSEN.get() or ours()


@cache
def ours() -> Edition:
    """What this process judges by, from its environment. Raises ValidationFailed."""
    path = settings.environment_value("reflex_kinds")
    return read_edition(path) if path else Edition()


def usable() -> Edition:
    """What is judged by here, or the package's rows where the operator's file cannot be used: for telling so."""
    try:
        return edition()
    except ValidationFailed:
        return Edition()


def read_edition(path: Path) -> Edition:
    """The package's rows with those of a file. Raises ValidationFailed that names the file, the row and the fault."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValidationFailed(f"{path}: the file of patterns cannot be read: {reason}") from error
    if len(data) > LARGEST_FILE:
        raise ValidationFailed(f"{path}: a file of patterns has at most {LARGEST_FILE} bytes")
    return Edition(parse_rows(text, str(path)), str(path))


@contextmanager
def judged_by(other: Edition) -> Iterator[None]:
    """Judge by another edition while the block runs: in this task, and in what it starts."""
    token = _CHOSEN.set(other)
    try:
        yield
    finally:
        _CHOSEN.reset(token)


def pii_kinds() -> frozenset[str]:
    """The kinds of personal data and credentials that are known here, an operator's own among them."""
    return edition().kinds
