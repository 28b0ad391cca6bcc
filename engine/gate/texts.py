"""How a text goes to a remote gate: in parts that it takes, cut only where nothing can be found across."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.errors import GateUnavailable
from engine.reflex.walk import SEPARATOR

TOGETHER = 100_000
"""Characters from which the strings of a value are sent in several parts."""
LONGEST = 1_000_000
"""Characters of one part at most: what `POST /reflex/process` takes."""

_SURROGATES = re.compile("[\ud800-\udfff]")


def parts(text: str) -> Iterator[tuple[int, str]]:
    """(offset, part): strings of a value together up to TOGETHER, a longer one by itself.

    The sign between two strings is one that no pattern crosses, so nothing is lost at a cut. Parts that hold no
    sign at all are left out. Raises GateUnavailable for a string that is longer than LONGEST.
    """
    start = 0
    while start < len(text):
        end = _end(text, start)
        if end - start > LONGEST:
            raise GateUnavailable(
                f"a string of {end - start} characters cannot be judged: the remote gate takes {LONGEST} in one"
            )
        part = text[start:end]
        if part.strip(SEPARATOR):
            yield start, part
        start = end


def _end(text: str, start: int) -> int:
    if len(text) - start <= TOGETHER:
        return len(text)
    cut = text.rfind(SEPARATOR, start, start + TOGETHER)
    if cut < 0:
        cut = text.find(SEPARATOR, start)
    return len(text) if cut < 0 else cut + len(SEPARATOR)


def sendable(text: str) -> str:
    """`text` as UTF-8 can carry it, with its offsets: halves of surrogate pairs become U+FFFD, which is as little."""
    return _SURROGATES.sub("\ufffd", text)
