"""The exact tests behind the patterns of credentials: what is a secret, and what only stands for one.

Checks as those of `engine.reflex.checks`. A placeholder (`${PW}`, `<key>`, our own `[SECRET:NAME]` and `[API_KEY]`)
is no secret, and neither is what little an encoder left around one; but a key that stands beside a placeholder
is found, so no text can hide one by a mark of its own.
"""

from __future__ import annotations

import base64
import re
from string import digits

Span = tuple[int, int]

_LONGEST_KEY = 16_384
_LONGEST_SECRET = 180
_SHORTEST_SECRET = 8
_LONG_SECRET = 128
_LONG_RUN = 4 * _LONGEST_SECRET  # half of it is more than a mark's rest and a value
_URL_REACH = 100
_URL_ENDS = frozenset(" \t\r\n\"'<>,;|`\0")
_DIGITS = frozenset(digits)
_STANDS_BEFORE = ("your", "xxx", "changeme", "example", "redacted")
_SECRET_REST = re.compile(r"""(?:[^\s"',;|<\0]|<(?!/))+""", re.ASCII)  # to the end of its cell or element
_CODE = re.compile(  # what programs assign: names, and calls and members of what is named
    r"[A-Za-z_]{4,}(?:(?:\.|->|::)[A-Za-z_]+)*(?:[\[({].*|[)\]}?]*)", re.ASCII
)
_KEY_BODY = re.compile(r"(?:\s*[0-9A-Za-z+/=]{16,}(?:\\n)?)+(?:\s*[0-9A-Za-z+/]{1,15}={0,2})?", re.ASCII)
_STANDS_FOR = re.compile(
    r"\[[A-Z_]{2,32}\]|\[SECRET:[\w.-]{1,128}\]|\$\{[^{}]*\}|\{\{[^{}]*\}\}|\{[A-Za-z_][\w.]{2,40}\}|"
    r"<[A-Za-z_][\w .-]{2,40}>",
    re.ASCII,
)
_REFERENCE = re.compile(
    r"[<{\[%]|\$(?:[A-Z_][A-Z0-9_]*|[a-z_][a-z0-9_]*|[({].*)\Z", re.ASCII
)  # `$PW`, `%s`, `<pw>`
_REST_OF_MARK = re.compile(
    r"[\w.-]{1,128}\]", re.ASCII
)  # "[SECRET:" before it reads like the name of a secret
_BASE64 = re.compile(r"[0-9A-Za-z+/_-]+={0,2}", re.ASCII)
_WORD = re.compile(r"[^\s\"'{}\[\]:,;=&]{8,}", re.ASCII)


def url_credentials(text: str, start: int, end: int) -> Span | None:
    """The whole URL, unless the password is a reference that is filled in later (`$PW`, `${PW}`, `<pw>`)."""
    password = text[start:end]
    rest = _STANDS_FOR.sub("", password)
    if not rest or (rest == password and _REFERENCE.match(password)) or set(password) <= {"*", "x", "X"}:
        return None
    opening = text.rfind("://", max(0, start - _URL_REACH), start)
    while opening and (text[opening - 1].isalnum() or text[opening - 1] in "+.-"):
        opening -= 1
    closing = end
    while closing < len(text) and text[closing] not in _URL_ENDS:
        closing += 1
    return opening, closing - (text[closing - 1] in ".,)")


def secret(text: str, start: int, end: int) -> Span | None:
    """A value that looks like a secret: no reference, no placeholder, no plain word. What was found is its
    beginning."""
    end = _end_of_value(text, end)
    value = text[start:end]
    return (start, end) if value[0] not in "$<{[(%*" and "${" not in value and _is_secret(value) else None


def assigned(text: str, start: int, end: int) -> Span | None:
    """The same where a program or a template may stand as well; of a value with placeholders, what looks like a
    secret beside them."""
    named = _REST_OF_MARK.match(text, start) if text.startswith("[SECRET:", max(0, start - 8)) else None
    first = named.end() if named else start
    last = _end_of_value(text, max(first, end))
    if last - first > _LONG_SECRET:
        nothing = _barren(text, first)
        if nothing > last:
            return nothing, nothing
    pieces = _beside_placeholders(text, first, last)
    if pieces == [(start, last)]:
        return None if _CODE.fullmatch(text, start, last) else secret(text, start, last)
    return next((piece for piece in pieces if _left_beside(text[slice(*piece)])), None)


def _barren(text: str, start: int) -> int:
    """Until where no value can begin that is a secret, because of all that follows on without a break none is.

    A text made of beginnings would have each of them looked at to the end of its value.
    """
    found = _SECRET_REST.match(text, start, start + _LONG_RUN)
    return found.end() - _LONG_RUN // 2 if found and not _is_mixed(found[0]) else start


def _left_beside(piece: str) -> bool:
    """Whether what stands beside a placeholder is a secret of its own."""
    return len(piece) >= _SHORTEST_SECRET and _is_secret(piece) and not _reads_well(piece)


def _end_of_value(text: str, end: int) -> int:
    rest = _SECRET_REST.match(text, end, end + _LONGEST_SECRET)
    return rest.end() if rest else end


def _is_secret(value: str) -> bool:
    """Whether the signs are as mixed as those of a secret are."""
    return not value[:8].lower().startswith(_STANDS_BEFORE) and _is_mixed(value)


def _is_mixed(value: str) -> bool:
    """Five different signs, and of digits, capitals, small letters and others three, or digits and one more."""
    if len(set(value[:32])) < 5 and len(set(value)) < 5:
        return False
    kinds = (value != value.lower()) + (value != value.upper()) + (not value.isalnum())
    return kinds > 2 or (kinds > 0 and not _DIGITS.isdisjoint(value))


def _beside_placeholders(text: str, start: int, end: int) -> list[Span]:
    """The stretches between placeholders; the whole where there is none."""
    spans: list[Span] = []
    held_in = text[start:end]
    if "[" not in held_in and "{" not in held_in and "<" not in held_in:  # one of which every placeholder has
        return [(start, end)]
    for held in _STANDS_FOR.finditer(text, start, end):
        spans.append((start, held.start()))
        start = held.end()
    return [*spans, (start, end)]


def _reads_well(piece: str) -> bool:
    """Whether a stretch of Base64, wherever it was cut, is a text without a secret: what stood around one."""
    if not _BASE64.fullmatch(piece):
        return False
    code = piece.rstrip("=").replace("-", "+").replace("_", "/")
    for skipped in range(4):
        rest = code[skipped:]
        raw = base64.b64decode(rest[: len(rest) // 4 * 4])
        if len(raw) > 2 and all(32 <= sign < 127 or sign in (9, 10, 13) for sign in raw):
            return not any(_is_secret(word) for word in _WORD.findall(raw.decode("ascii")))
    return False


def private_key(text: str, start: int, end: int) -> Span | None:
    """From the opening line to the closing one, or to the end of the encoded lines if the key is cut off."""
    last = end + _LONGEST_KEY
    following = text.find("-----BEGIN ", end, last)
    closing = text.find("-----END ", end, following if following >= 0 else last)
    if closing < 0:
        body = _KEY_BODY.match(text, end, last)
        return start, body.end() if body else end
    closed = text.find("-----", closing + 9, closing + 64)
    return start, closed + 5 if closed >= 0 else closing
