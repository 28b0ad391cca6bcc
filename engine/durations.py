"""Lengths of time as people write them, and back.

Every duration that a definition, a setting or a flag holds goes through here, so "15m" means the same
everywhere. Arithmetic is done in whole microseconds, the unit of both `timedelta` and PostgreSQL's
`interval`; what is finer is rounded. Months and years have no fixed length and are refused.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

from engine.errors import Problem, ValidationFailed

MAX_DURATION = timedelta(days=36_525)
"""A hundred years; anything longer is a slip of the pen and would overflow dates computed from it."""

ACCEPTED = 'write it like "15m", "1h30m", "500ms", "2d", "1w", ISO 8601 "PT15M", or a number of seconds'

_UNITS = {  # microseconds, largest first: the order in which a text must name them
    "w": 604_800_000_000,
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
}
_NUMBER = r"\d{1,18}(?:\.\d{1,12})?"
_BARE = re.compile(_NUMBER, re.ASCII)
_PART = re.compile(rf"({_NUMBER})\s*(ms|[wdhms])\s*", re.ASCII)
_PARTS = re.compile(rf"(?:{_NUMBER}\s*(?:ms|[wdhms])\s*)+", re.ASCII)
_ISO = re.compile(
    rf"P(?=.)(?:({_NUMBER})W)?(?:({_NUMBER})D)?(?:T(?=.)(?:({_NUMBER})H)?(?:({_NUMBER})M)?(?:({_NUMBER})S)?)?",
    re.ASCII,
)


def parse_duration(value: str | int | float) -> timedelta:
    """The length of time that `value` names, from zero to `MAX_DURATION`.

    Text is units in falling order, each at most once ("1h30m", "500ms", "2d"), ISO 8601 without months and
    years ("PT15M", "P1DT12H"), or a bare number; numbers are seconds. Raises ValidationFailed otherwise.
    """
    if isinstance(value, str):
        micros = _micros_of_text(value.strip())
    elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        micros = None
    else:
        micros = Decimal(value) * _UNITS["s"]
    if micros is None or micros < 0:
        raise _refused(f"{_shown(value)} is not a duration: {ACCEPTED}")
    if micros > MAX_DURATION // timedelta(microseconds=1):
        raise _refused(f"{_shown(value)} is longer than {MAX_DURATION.days} days, the most a duration may be")
    return timedelta(microseconds=round(micros))


def format_duration(delta: timedelta) -> str:
    """The shortest text in whole units that `parse_duration` reads back as `delta`: "15m", "90s", "1.5ms".

    Of two equally short texts the one with the larger units is taken ("1w", not "7d"). Raises ValueError
    for a negative delta, which no text of ours can say.
    """
    micros = delta // timedelta(microseconds=1)
    if micros < 0:
        raise ValueError("a duration is never negative")
    if micros == 0:
        return "0s"
    names = list(_UNITS)
    return min((_spelled(micros, names[first:]) for first in range(len(names))), key=len)


def _micros_of_text(text: str) -> Decimal | None:
    if _BARE.fullmatch(text):
        return Decimal(text) * _UNITS["s"]
    if text.startswith("P"):
        return _micros_of_iso(text)
    if not _PARTS.fullmatch(text):
        return None
    parts = _PART.findall(text)
    rank = list(_UNITS)
    if any(rank.index(later) <= rank.index(earlier) for (_, earlier), (_, later) in pairwise(parts)):
        return None
    return sum((Decimal(number) * _UNITS[unit] for number, unit in parts), Decimal(0))


def _micros_of_iso(text: str) -> Decimal | None:
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    return sum(
        (Decimal(n) * _UNITS[u] for n, u in zip(match.groups(), "wdhms", strict=True) if n), Decimal(0)
    )


def _spelled(micros: int, units: list[str]) -> str:
    """`micros` in the units given, largest first; what a millisecond does not divide becomes its fraction."""
    text = ""
    for unit in units[:-1]:
        count, micros = divmod(micros, _UNITS[unit])
        text += f"{count}{unit}" if count else ""
    if micros:
        text += f"{Decimal(micros) / _UNITS['ms']:f}ms"
    return text


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refused(detail: str) -> ValidationFailed:
    return ValidationFailed(detail, errors=(Problem("duration", detail),))
