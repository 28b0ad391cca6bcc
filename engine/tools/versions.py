"""Versions of tools: which of two is the newer one.

A version is parts between dots and dashes. Parts that are numbers count as numbers (10 comes after 9) and after
words; a version with fewer parts comes before (1.2 before 1.2.1), except that what follows a dash says that the
version is not ready yet (2.0-rc1 before 2.0). No version at all comes before every other.
"""

from __future__ import annotations

import re

_PARTS = re.compile(r"\d+|[^\d._+]+")

Order = tuple[tuple[tuple[int, int, str], ...], int, tuple[tuple[int, int, str], ...]]


def order(version: str | None) -> Order:
    """A key that sorts versions from the oldest to the newest."""
    if version is None:
        return ((), 0, ())
    release, dash, early = version.partition("-")
    return (_parts(release), 0 if dash else 1, _parts(early))


def _parts(text: str) -> tuple[tuple[int, int, str], ...]:
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in _PARTS.findall(text))
