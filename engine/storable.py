"""What PostgreSQL's jsonb can hold: checked before a value gets there, so that no bad row spoils a batch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from engine.errors import OutputInvalid

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_ENCODED = json.JSONEncoder(allow_nan=False).encode  # json.dumps would make an encoder for each value


def check_storable(value: Any, limit: int, what: str = "the output") -> int:
    """The value's length as JSON.

    Raises OutputInvalid for what PostgreSQL's jsonb cannot hold, and for more than `limit` bytes; `what` says of what.
    """
    try:
        text = _ENCODED(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise OutputInvalid(f"{what} is not JSON: {error}") from error
    if len(text) > limit:
        raise OutputInvalid(f"{what} has {len(text)} bytes; the limit is {limit} (DUEWORK_MAX_OUTPUT_BYTES)")
    if "\\u0000" in text or "\\ud" in text:
        _check_texts(value, what)
    return len(text)


def storable(value: Any) -> Any:
    """The value, or a copy of it without what jsonb cannot hold: for what is told of a failure, whatever it was."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {storable(str(key)): storable(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    finite = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return value if value is None or finite else storable(str(value))


def _check_texts(value: Any, what: str) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise OutputInvalid(f"{what} holds a NUL character, which PostgreSQL cannot store")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise OutputInvalid(f"{what} holds half of a surrogate pair, which is not text") from error
    elif isinstance(value, dict):
        for key, member in value.items():
            _check_texts(key, what)
            _check_texts(member, what)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item, what)
