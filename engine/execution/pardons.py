"""Pardons: what a person has released of a run that the gate had stopped, and what stops it now.

A finding is known again by the keyed digest of everything that it is: run, step, item, direction, category, kind,
rule, place and raw value. So a released digest lets pass that one finding; any other value or place has another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from engine.reflex import Match, Verdict, digest
from engine.reflex.digests import Fingerprint, Pardon


class Place(NamedTuple):
    """What is judged: the input or the output of a step or an item; step None is the run's own output."""

    step: str | None
    item: int | None
    direction: str


class Pardons:
    """Of one attempt. `state` is what the run carries from its releases: {"count": n, "digests": […]}; `marked` lets
    pass what people have marked as false, in whatever run.

    `blocked` are the findings that block, each with its place, `used` the places where something was let pass.
    Without a `key` there are no digests: nothing can be released, and nothing is.
    """

    def __init__(
        self, key: bytes, run_id: UUID, state: Mapping[str, Any] | None, marked: Pardon | None = None
    ) -> None:
        self.blocked: list[dict[str, Any]] = []
        self.used: set[Place] = set()
        self._key = key
        self._marked = marked
        self._run_id = str(run_id)
        self._released = frozenset((state or {}).get("digests", ()) if key else ())

    def fingerprint(self, place: Place) -> Fingerprint | None:
        """The digest of what is found at `place`."""
        return (lambda match: self._digest(place, match)) if self._key else None

    def pardoned(self, place: Place) -> Pardon | None:
        """Whether a hit at `place` was released, or is marked; None where nothing can be."""
        marked = self._marked

        def released(match: Match) -> bool:
            if self._digest(place, match) in self._released:
                self.used.add(place)
                return True
            return marked is not None and marked(match)

        return released if self._released else marked

    def note(self, place: Place, verdict: Verdict) -> None:
        """A verdict that blocks."""
        found = [finding.as_dict() for finding in verdict.findings if finding.digest]
        self.blocked += [{**place._asdict(), **finding} for finding in found]

    def _digest(self, place: Place, match: Match) -> str:
        return digest(self._key, "finding", self._run_id, *place, *match)
