"""Values to JSON bytes, and the entity tags that stand for them."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from engine.errors import Malformed

_TAG = re.compile(r'(?:W/)?"([^"]*)"')
_VERSION = re.compile(r"(\d{1,9})(?:\.[0-9a-f]+)?", re.ASCII)


def to_json(value: Any) -> bytes:
    """Compact UTF-8 JSON; instants as `2026-12-01T09:00:00Z`, durations in seconds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
    return text.encode()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def instant(value: datetime) -> str:
    """RFC 3339, `Z` for UTC."""
    return value.isoformat().replace("+00:00", "Z")


def entity_tag(version: int, body: Any) -> str:
    """`"<version>.<digest>"`: If-None-Match compares the whole, If-Match the version of the definition."""
    return f'"{version}.{hashlib.blake2b(to_json(body), digest_size=8).hexdigest()}"'


def tag_listed(header: str | None, tag: str) -> bool:
    """Whether If-None-Match names `tag` (weak comparison, RFC 9110 section 8.8.3.2)."""
    if header is None:
        return False
    return header.strip() == "*" or tag.strip('"') in _TAG.findall(header)


def expected_version(header: str | None) -> int | None:
    """The version that If-Match names; None without the header or for `*`. Raises Malformed."""
    if header is None or header.strip() == "*":
        return None
    tags = _TAG.findall(header) or [header.strip()]
    match = _VERSION.fullmatch(tags[0]) if len(tags) == 1 else None
    if match is None:
        raise Malformed('If-Match must be the ETag of the task as it was answered, such as "3.0f4a…"')
    return int(match[1])
