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

_MOST_HITS = 64  # of a text that is remembered


class Memory:
    """Hits by the digest of their text."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Hit, ...]] = {}

    def recall(self, text: str, search: Callable[[str], list[Hit]]) -> tuple[Hit, ...]:
        """The hits of `text`, from memory or by `search`, whose errors are not remembered."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._known.get(digest)
        if known is None:
            known = tuple(search(text))
            if len(known) <= _MOST_HITS:
                self._keep(digest, known)
        return known

    def _keep(self, digest: bytes, hits: tuple[Hit, ...]) -> None:
        if len(self._known) >= ENTRIES:
            self._known = dict(list(self._known.items())[ENTRIES // 2 :])
        self._known[digest] = hits

    def __len__(self) -> int:
        return len(self._known)
