"""Settings that are lists of `name=value`, separated by blanks: databases by name, prices by model.

A fault is told by its place in the list, never by its text, which may hold a password.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}", re.ASCII)
_URL = re.compile(r"postgres(?:ql)?://\S+")
_PRICE = re.compile(r"([0-9.]+)/([0-9.]+)", re.ASCII)


def databases(text: str) -> dict[str, str]:
    """Connection name → database URL. Raises ValueError."""
    found: dict[str, str] = {}
    for place, name, url in _pairs(text, "name=postgresql://host/database"):
        if not _NAME.fullmatch(name):
            raise ValueError(f"entry {place}: a name has letters, digits and _ . - and begins with a letter")
        if not _URL.fullmatch(url):
            raise ValueError(f"entry {place} ({name}) is not a postgresql:// URL")
        if name in found:
            raise ValueError(f"entry {place}: {name} is named twice")
        found[name] = url
    return found


def prices(text: str) -> dict[str, tuple[float, float]]:
    """Model → USD for a million tokens, in and out. Raises ValueError."""
    found: dict[str, tuple[float, float]] = {}
    for place, model, price in _pairs(text, "model=2.50/10"):
        match = _PRICE.fullmatch(price)
        try:
            asked, answered = (float(part) for part in match.groups()) if match else (math.nan, math.nan)
        except ValueError:
            asked = answered = math.nan
        if math.isnan(asked) or math.isnan(answered):
            raise ValueError(
                f"entry {place} ({model}): a price is USD for a million tokens in/out, like 2.50/10"
            )
        found[model] = (asked, answered)
    return found


def _pairs(text: str, form: str) -> Iterator[tuple[int, str, str]]:
    for place, entry in enumerate(text.split(), 1):
        name, equals, value = entry.partition("=")
        if not equals or not name or not value:
            raise ValueError(f"entry {place} is not like {form}")
        yield place, name, value
