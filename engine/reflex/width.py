"""How long the matches of an expression can be, so that no search looks further than a match can reach.

The syntax is the part of RE2's that the patterns use; of anything else no width is told, and the searches go as far
as they may.
"""

from __future__ import annotations

import re

ENDLESS = 1 << 20
"""The width of what has no upper bound, and of what cannot be read."""

_SIGN = re.compile(
    r"\\(?:x[0-9A-Fa-f]{2}|x\{[0-9A-Fa-f]+\}|[pP]\{\w+\}|[^xpPQCX])|"  # an escape
    r"\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]|"  # a class
    r"[^\\\[(){}|?*+]",
    re.ASCII | re.DOTALL,
)
_COUNT = re.compile(r"(?:[?*+]|\{(\d+)(,?)(\d*)\})\??", re.ASCII)
_FLAGS = re.compile(r"\(\?[a-zA-Z-]+\)", re.ASCII)
_GROUP = re.compile(r"\((?:\?(?:P?<\w+>|[a-zA-Z-]*:))?(?!\?)", re.ASCII)
_EMPTY = frozenset({r"\b", r"\B", r"\A", r"\z", "^", "$"})


def widest(regex: str) -> int:
    """Signs of the longest match of `regex`, or `ENDLESS`."""
    width, place = _choice(regex, 0)
    return min(width, ENDLESS) if place == len(regex) else ENDLESS


def _choice(regex: str, place: int) -> tuple[int, int]:
    """The width of the branches from `place` to a closing parenthesis or the end, and where that is."""
    width = branch = 0
    while place < len(regex) and regex[place] != ")":
        if regex[place] == "|":
            width, branch, place = max(width, branch), 0, place + 1
            continue
        one, place = _one(regex, place)
        times, place = _times(regex, place)
        branch += one * times
    return max(width, branch), place


def _one(regex: str, place: int) -> tuple[int, int]:
    """The width of the sign, class or group at `place`, and where it ends; past the end if it cannot be read."""
    if flags := _FLAGS.match(regex, place):
        return 0, flags.end()
    if group := _GROUP.match(regex, place):
        width, place = _choice(regex, group.end())
        return width, place + 1
    sign = _SIGN.match(regex, place)
    if not sign:
        return ENDLESS, len(regex) + 1
    return int(sign[0] not in _EMPTY), sign.end()


def _times(regex: str, place: int) -> tuple[int, int]:
    """How often what came before `place` may be repeated, and where the count ends."""
    count = _COUNT.match(regex, place)
    if not count:
        return 1, place
    if count[0][0] != "{":
        return (1 if count[0][0] == "?" else ENDLESS), count.end()
    most = int(count[3]) if count[3] else ENDLESS if count[2] else int(count[1])
    return most, count.end()
