"""The dialect's functions on texts. Each refuses a secret's placeholder: it may only be passed on whole."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from typing import Any

from engine.expressions.values import MAX_TEXT_RESULT, Meter, Refused, check_size, check_text, compact_json

_ALGORITHMS = ("sha256", "sha512", "sha1", "md5")
_NAMESPACES = {
    "dns": uuid.NAMESPACE_DNS,
    "url": uuid.NAMESPACE_URL,
    "oid": uuid.NAMESPACE_OID,
    "x500": uuid.NAMESPACE_X500,
}


def b64(text: str) -> str:
    """Base64 of the text's UTF-8 bytes."""
    return base64.b64encode(_bytes(text)).decode()


def digest(value: Any, algorithm: str = "sha256", *, meter: Meter) -> str:
    """Hexadecimal digest of a text's UTF-8 bytes, or of any other value's compact JSON with sorted keys."""
    if algorithm not in _ALGORITHMS:
        raise Refused(f"hash() knows {', '.join(_ALGORITHMS)}")
    if not isinstance(value, str):
        check_size(value, meter)
        value = compact_json(_in_key_order(value))
    return hashlib.new(algorithm, _bytes(value), usedforsecurity=False).hexdigest()


def from_json(text: str, *, meter: Meter) -> Any:
    """The value of a JSON text. NaN and Infinity are not JSON."""
    try:
        value = json.loads(check_text(text), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused("from_json() was given a text that is not JSON") from error
    check_size(value, meter)
    return value


def lower(text: str) -> str:
    """The text in lower case."""
    return check_text(text).lower()


def upper(text: str) -> str:
    """The text in upper case."""
    return check_text(text).upper()


def replace(text: str, old: str, new: str) -> str:
    """Every occurrence of `old` in `text` replaced by `new`."""
    if not old:
        raise Refused("replace() needs a text to look for")
    check_text(text)
    if len(text) + text.count(old) * (len(new) - len(old)) > MAX_TEXT_RESULT:
        raise Refused(f"replace() would make a text of more than {MAX_TEXT_RESULT} characters")
    return text.replace(old, new)


def split(text: str, separator: str) -> list[str]:
    """The parts of `text` between separators."""
    if not separator:
        raise Refused("split() needs a separator")
    return check_text(text).split(separator)


def uuid5(namespace: str, name: str) -> str:
    """The RFC 9562 version 5 UUID of `name`."""
    known = _NAMESPACES.get(namespace)
    try:
        return str(uuid.uuid5(known or uuid.UUID(namespace), check_text(name)))
    except (ValueError, UnicodeEncodeError) as error:
        raise Refused("uuid5() needs the namespace dns, url, oid, x500 or a UUID") from error


def _bytes(text: str) -> bytes:
    try:
        return check_text(text).encode()
    except UnicodeEncodeError as error:
        raise Refused("the text holds half a surrogate pair") from error


def _in_key_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _in_key_order(value[key]) for key in sorted(value)}
    return [_in_key_order(item) for item in value] if isinstance(value, list) else value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
