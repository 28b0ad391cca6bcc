"""Cursors: opaque places in a list, tied to the filters of that list, so that they cannot be mixed up."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from engine.db import Row
from engine.errors import Malformed, Problem

_PAGING = frozenset({"cursor", "limit", "offset"})
_READERS: Mapping[type, Callable[[Any], Any]] = {
    datetime: datetime.fromisoformat,
    UUID: UUID,
    int: lambda value: value if isinstance(value, int) and 0 <= value < 2**63 else int(""),
}


def encode(place: Sequence[Any], filters: Mapping[str, Any]) -> str:
    """The cursor of the item whose sort key is `place` (datetimes, UUIDs, integers)."""
    parts = [part if isinstance(part, int) else _text(part) for part in place]
    text = json.dumps([_digest(filters), *parts], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(text: str | None, filters: Mapping[str, Any], *kinds: type) -> Any:
    """The place that a cursor names, one value per kind, or None without a cursor.

    Raises Malformed for anything that `encode` did not make for these filters.
    """
    if text is None:
        return None
    try:
        parts = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        digest, *values = parts
        place = tuple(_READERS[kind](value) for kind, value in zip(kinds, values, strict=True))
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        raise _bad("it is not one that this API gave") from None
    if any(isinstance(part, datetime) and part.tzinfo is None for part in place):
        raise _bad("it is not one that this API gave")
    if digest != _digest(filters):
        raise _bad("it belongs to other filters")
    return place


def page(
    rows: Sequence[Row],
    query: Mapping[str, Any],
    place: Callable[[Row], Sequence[Any]],
    show: Callable[[Row], Any],
) -> dict[str, Any]:
    """{items, next_cursor, has_more} of rows that were fetched with one more than the limit."""
    limit = query["limit"]
    more = len(rows) > limit
    shown = rows[:limit]
    return {
        "items": [show(row) for row in shown],
        "next_cursor": encode(place(shown[-1]), query) if more else None,
        "has_more": more,
    }


def _text(part: Any) -> str:
    return part.isoformat() if isinstance(part, datetime) else str(part)


def _digest(filters: Mapping[str, Any]) -> str:
    kept = sorted((key, str(value)) for key, value in filters.items() if key not in _PAGING)
    return hashlib.blake2b(json.dumps(kept).encode(), digest_size=6).hexdigest()


def _bad(why: str) -> Malformed:
    detail = f"the cursor is not valid: {why}; begin again without one"
    return Malformed(detail, errors=[Problem("bad_cursor", detail, "/cursor")])
