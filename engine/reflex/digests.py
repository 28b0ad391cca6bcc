"""Keyed digests: to know a value again without keeping it.

A digest without a key could be turned round by trying all values of a kind: there are a thousand million social
security numbers. With a key that is kept elsewhere it says nothing, except whether two values are the same; and
where it is bound to a place (a run, a step), not even that.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import NamedTuple

SIZE = 16
"""Bytes of a digest: nobody finds a second value for one of 128 bits."""


class Match(NamedTuple):
    """What a hit is, told inside `judge` alone: `value` is raw, and so are the keys in `pointer`; keep neither.

    `category` is pii or injection, `kind` the PII kind or the family, `key` whether it stands in a member's name.
    """

    category: str
    kind: str
    rule: str
    pointer: str
    value: str
    key: bool = False


Pardon = Callable[[Match], bool]
"""Whether a hit is let pass, whatever the policy says."""
Fingerprint = Callable[[Match], str]
"""The digest by which a hit is known again."""


def digest(key: bytes, *parts: str | int | bool | None) -> str:
    """HMAC-SHA256 (RFC 2104) of the parts, cut to `SIZE` bytes, in hexadecimal; any character may stand in a part."""
    text = json.dumps(parts, separators=(",", ":"))  # ASCII: a lone surrogate is a text like any other
    return hmac.digest(key, text.encode(), hashlib.sha256)[:SIZE].hex()
