"""What was found in the texts of late, by their digest: a schedule's steps see the same texts again and again.

The texts themselves are not kept. The memory is bounded, and thread-safe as far as its dict is: two threads may
work out the same text at once, and come to the same answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from engine.reflex.findings import Hit

ENTRIES = 2_048
"""Texts that are remembered; then the older half is forgotten."""

HITS = 65_536
"""Hits of all of them together, the same."""


class Memory:
    """Hits by the digest of their text."""

    __slots__ = ("_held", "_known")

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Hit, ...]] = {}
        self._held = 0

    def recall(self, text: str, search: Callable[[str], list[Hit]]) -> tuple[Hit, ...]:
        """The hits of `text`, from memory or by `search`, whose errors are not remembered."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()  # half the cost of BLAKE2
        known = self._known.get(digest)
        if known is None:
            known = tuple(search(text))
            self._keep(digest, known)
        return known

    def _keep(self, digest: bytes, hits: tuple[Hit, ...]) -> None:
        if len(hits) > HITS // 2:
            return
        if len(self._known) >= ENTRIES or self._held + len(hits) > HITS:
            self._known = dict(list(self._known.items())[(len(self._known) + 1) // 2 :])
            self._held = sum(map(len, self._known.values()))
        if self._held + len(hits) <= HITS:
            self._known[digest] = hits
            self._held += len(hits)

    def __len__(self) -> int:
        return len(self._known)
