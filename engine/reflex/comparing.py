"""Two verdicts on one value, compared place by place, and the sum of many such comparisons: what a change would do.

A place is a kind (or family) at a pointer; what is done about it is the strictest of its findings. Sums hold counts,
names of rules and a few pointers, never values.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.reflex.detection import mask
from engine.reflex.digests import Match

POINTERS = 5
"""Pointers, and runs, that are named of one change; the rest is counted."""

_ORDER = ("pass", "flag", "redact", "block")
_MARK = re.compile(r"\[[A-Z][A-Z0-9_]*(?::[A-Za-z0-9_.-]+)?\]", re.ASCII)


class Place(NamedTuple):
    """Where something was found: a kind of personal data or a family of injection at a pointer."""

    category: str
    kind: str
    pointer: str


class Change(NamedTuple):
    """A row of the sum: in which step what is done about a kind would become something else, by which rule."""

    task: str
    step: str
    direction: str
    kind: str
    rule: str
    before: str
    after: str


@dataclass(slots=True)
class Sum:
    """Comparisons added up. `values` counts (before, after) of whole values, `changes` places."""

    values: Counter[tuple[str, str]] = field(default_factory=Counter)
    changes: Counter[Change] = field(default_factory=Counter)
    pointers: dict[Change, list[str]] = field(default_factory=dict)
    runs: dict[Change, list[str]] = field(default_factory=dict)

    def add(self, where: tuple[str, str, str], run_id: str, before: Findings, after: Findings) -> None:
        """One value of a (task, step, direction), by what is found in it before and after."""
        self.values[_strictest(before), _strictest(after)] += 1
        for place in sorted(before.keys() | after.keys()):
            was, (becomes, rule) = before.get(place, ("pass", "")), after.get(place, ("pass", ""))
            if was[0] == becomes:
                continue
            change = Change(*where, place.kind, rule or was[1], was[0], becomes)
            self.changes[change] += 1
            _note(self.pointers.setdefault(change, []), mask(place.pointer))
            _note(self.runs.setdefault(change, []), run_id)

    def rows(self) -> list[dict[str, Any]]:
        """The changes, the strictest and most frequent first."""
        ordered = sorted(self.changes.items(), key=_weight)
        return [
            {
                **change._asdict(),
                "places": count,
                "pointers": self.pointers[change],
                "runs": self.runs[change],
            }
            for change, count in ordered
        ]


Findings = Mapping[Place, tuple[str, str]]
"""What is done about each place, and by which rule."""


def places(findings: Iterable[Mapping[str, Any]]) -> dict[Place, tuple[str, str]]:
    """The findings of a verdict in its JSON form, by place."""
    found: dict[Place, tuple[str, str]] = {}
    for each in findings:
        place = Place(each["category"], each.get("kind") or each["family"], each["pointer"])
        known = found.get(place)
        if known is None or _ORDER.index(each["action"]) > _ORDER.index(known[0]):
            found[place] = each["action"], each["rule"]
    return found


def redacted_before(match: Match) -> bool:
    """Whether a finding is what a redaction has left: personal data that holds a mark like `[EMAIL]`."""
    return match.category == "pii" and _MARK.search(match.value) is not None


def _strictest(found: Findings) -> str:
    return max((action for action, _ in found.values()), key=_ORDER.index, default="pass")


def _note(listed: list[str], text: str) -> None:
    if text not in listed and len(listed) < POINTERS:
        listed.append(text)


def _weight(entry: tuple[Change, int]) -> tuple[int, int, Change]:
    change, count = entry
    return -_ORDER.index(change.after), -count, change
