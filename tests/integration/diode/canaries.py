"""Canaries: a value of each pattern that the gate acts upon, taken from the pattern's own first example.

A canary travels in disguise, with a sign between all others that no pattern knows, and comes to light where a door
is: so nothing but that door can have let it in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from engine.reflex.catalogue import patterns
from engine.reflex.detection import ACT_FROM, MASK_FROM, at_least
from tests.source import ROOT

VEIL = "§"
"""Between the signs of a canary in disguise."""
UNVEILED = f"replace(params.x, '{VEIL}', '')"
"""The expression that takes a canary in params.x out of its disguise."""
_MEANT = re.compile("«(.*?)»", re.DOTALL)
_LONG = 12  # signs from which most of a canary is looked for as well: what is cut off is told all the same
_WAYS = re.compile(r"^\| `([a-z-]+)` \|", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Canary:
    """`text` holds the canary in the surroundings that it is found in; `needles` must be found nowhere else."""

    rule: str
    kind: str
    category: str
    text: str
    needles: tuple[str, ...]

    @property
    def veiled(self) -> str:
        """The text in disguise."""
        return VEIL.join(self.text)

    def found_in(self, text: str) -> str | None:
        """The needle that `text` holds, with its surroundings."""
        for needle in self.needles:
            place = text.find(needle)
            if place >= 0:
                return f"{self.rule}: …{text[max(0, place - 200) : place + len(needle) + 40]!r}…"
        return None


@cache
def canaries() -> tuple[Canary, ...]:
    """One for each pattern whose findings the default policy blocks."""
    rows = (row for row in patterns() if row.category != "evasion")
    return tuple(
        _canary(row.name, row.kind, row.category, row.match[0])
        for row in rows
        if (row.confidence >= ACT_FROM if row.category == "pii" else at_least(row.severity, MASK_FROM))
    )


def one_of_each() -> list[Canary]:
    """One canary of each kind of personal data and each family of injection."""
    return list({canary.kind: canary for canary in reversed(canaries())}.values())


def of(category: str, given: Iterable[Canary]) -> list[Canary]:
    """Those of personal data, or those of injection."""
    return [canary for canary in given if canary.category == category]


def together(given: Iterable[Canary]) -> Canary:
    """Many in one text."""
    listed = list(given)
    text = "\n\n".join(canary.text for canary in listed)
    return Canary("together", "", "pii", text, tuple(needle for one in listed for needle in one.needles))


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys included, and those in texts that are JSON themselves."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield key
            yield from texts_of(member)
    elif isinstance(value, list):
        for member in value:
            yield from texts_of(member)
    elif isinstance(value, str):
        yield value
        if value[:1] in ("{", "["):
            with suppress(ValueError):
                yield from texts_of(json.loads(value))
    elif value is not None:
        yield str(value)


def documented(section: str) -> set[str]:
    """The names of the ways in a table of the page on the data diode."""
    page = (ROOT / "docs/explanation/the-data-diode.md").read_text(encoding="utf-8")
    return set(_WAYS.findall(page.partition(f"## {section}\n")[2].partition("\n## ")[0]))


def _canary(rule: str, kind: str, category: str, example: str) -> Canary:
    found = _MEANT.search(example)
    meant = found[1] if found else example
    needles = [example.replace("«", "").replace("»", "") if meant.isalpha() else meant]
    if category == "pii" and len(meant) >= _LONG and not meant.startswith("-----"):
        needles += [meant[: len(meant) * 3 // 4], meant[len(meant) // 4 :]]
    return Canary(rule, kind, category, _MEANT.sub(r"\1", example), tuple(needles))
