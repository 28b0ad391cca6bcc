"""Secrets of one run: opaque placeholders until the call, marks in everything that comes back.

Templates, schemas and the gate see `secrets.NAME` as a placeholder. It becomes the value right before the
call, and whatever leaves the worker is searched for the value in every form that tools are known to give back.
Resolving a name (environment, files) is the caller's matter: this room does no I/O.
"""

from __future__ import annotations

import base64
import html
import json
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from engine.errors import DueworkError, Problem, ValidationFailed

SEARCHED_FROM = 4
"""Characters from which a secret is looked for inside longer texts; a shorter one is noise there."""
LINE_FROM = 8
"""Characters from which one line of a secret of several lines is looked for by itself."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_PLACEHOLDER = re.compile(f"\ue000([0-9a-f]{{16}}):({_NAME.pattern})\ue001", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]+", re.ASCII)  # what no encoder of text writes in another way
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_KEPT_IN_URLS = ("", "/", "!'()*", "!$&'()*+,;=:@/", "!$&'()*+,;=:@/?", ":/?#[]@!$&'()*+,;=%")
"""What encoders leave as it is: nothing, a path, encodeURIComponent, RFC 3986's segments and queries, encodeURI."""

Resolve = Callable[[str], str | None]


class Secrets(Mapping[str, str]):
    """`secrets` of one run's context: looking a name up gives a placeholder, never the secret.

    The placeholder holds a nonce of this object, so a text that merely imitates one is just text; only names
    that were looked up here are ever revealed. `resolve` answers with a secret's value now, or None; it is asked
    at every call, so a rotated secret is used by the next one. `named` are the names that the pipeline holds: a
    resumed run hides what its earlier attempts were given.
    """

    def __init__(self, resolve: Resolve, named: Iterable[str] = ()) -> None:
        self._resolve = resolve
        self._nonce = secrets.token_hex(8)
        self._used: set[str] = set()
        self._unread = set(named)
        self._known: dict[str, str] = {}  # value → name; a rotated secret has several values
        self._veil: Veil | None = None

    def __getitem__(self, name: str) -> str:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise KeyError(name)
        self._used.add(name)
        return f"\ue000{self._nonce}:{name}\ue001"

    def __iter__(self) -> Iterator[str]:
        return iter(())  # names are not for listing: `keys(secrets)` tells nothing

    def __len__(self) -> int:
        return 0

    def is_placeholder(self, token: str) -> bool:
        """Whether `token` is, as a whole, a placeholder of this object."""
        match = _PLACEHOLDER.fullmatch(token)
        return match is not None and self._ours(match)

    def reveal(self, value: Any, allowed: Collection[str] | None = None) -> Any:
        """`value` with placeholders replaced by their secrets; for the moment before the call.

        Raises ValidationFailed: problem code `unknown_secret` for a name that resolves to nothing,
        `secret_not_allowed` for one that is not among `allowed` (None: any is).
        """
        if not self._used:
            return value
        found: dict[str, str] = {}

        def value_of(match: re.Match[str]) -> str:
            name = match.group(2)
            if not self._ours(match):
                return match.group()
            if name not in found:
                found[name] = self._value(name, allowed)
            return found[name]

        return throughout(value, lambda text: _PLACEHOLDER.sub(value_of, text) if "\ue000" in text else text)

    def value(self, name: str) -> str | None:
        """A secret for a tool's own use, None where it is not set; from now on it is hidden like any other."""
        return self._value(name, None) if self._resolve(name) else None

    def conceal(self, value: Any, *, cut: bool = False) -> Any:
        """`value` with every secret known so far, and every placeholder, replaced by `[SECRET:NAME]`.

        `cut` says of a text that more of it was to come: the beginning of a secret at its end is one, too.

        For everything that is stored, logged or answered. Found in texts, keys and numbers, in the forms that
        `forms` lists.
        """
        if not self._used and not self._unread and not self._known:
            return value
        self._read()
        if self._veil is None:
            self._veil = Veil(self._known)
        hidden = throughout(value, self._conceal_text, self._veil.number)
        return self._veil.end_of(hidden) if cut else hidden

    def share(self, other: Secrets) -> None:
        """Hide what `other` has revealed so far, too: for what both have told something, and which may repeat it."""
        for value, name in other._known.items():
            self._learn(name, value)

    def _ours(self, match: re.Match[str]) -> bool:
        return match.group(1) == self._nonce and match.group(2) in self._used

    def _value(self, name: str, allowed: Collection[str] | None) -> str:
        if allowed is not None and name not in allowed:
            raise _refused("secret_not_allowed", f"secret {name} is not among the secrets of this tool")
        value = self._resolve(name)
        if not value:
            raise _refused(
                "unknown_secret", f"secret {name} is not set where this runs: provide it, or correct its name"
            )
        if _UNSTORABLE.search(value):
            raise _refused("unknown_secret", f"secret {name} is not UTF-8 text")
        self._learn(name, value)
        return value

    def _learn(self, name: str, value: str) -> None:
        if value not in self._known:
            self._known[value] = name
            self._veil = None

    def _read(self) -> None:
        """Learn the values of the pipeline's other secrets; what cannot be read was given to nobody."""
        while self._unread:
            name = self._unread.pop()
            try:
                value = self._resolve(name)
            except DueworkError:
                continue
            if value and not _UNSTORABLE.search(value):
                self._learn(name, value)

    def _conceal_text(self, text: str) -> str:
        if "\ue000" in text:
            text = _PLACEHOLDER.sub(
                lambda match: _mark(match.group(2)) if match.group(1) == self._nonce else match.group(), text
            )
        return text if self._veil is None else self._veil(text)


class Veil:
    """A function of texts that puts `[SECRET:NAME]` where a secret stands; `values` are names by value."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._whole = {value: _mark(name) for value, name in values.items()}
        marks = {_mark(name): _mark(name) for name in values.values()}
        found = {form: _mark(name) for value, name in values.items() for form in forms(value)}
        # A mark stays as it is, even where a secret is a word of it; of two secrets the longer form goes first.
        self._found = sorted(found.items(), key=lambda one: (-len(one[0]), one[0]))
        self._forms = [*marks.items(), *self._found]
        self._shortest = min(map(len, found), default=0)
        self._numeric = any(_NUMBER.fullmatch(value) for value in values)

    def __call__(self, text: str) -> str:
        if text in self._whole:
            return self._whole[text]
        if not self._shortest or len(text) < self._shortest:
            return text
        pieces = [text]  # open text at even places, marks at odd ones
        for form, mark in self._forms:
            if form in text:
                pieces = [part for each in _split(pieces, form, mark) for part in each]
        return text if len(pieces) == 1 else "".join(pieces)

    def end_of(self, text: str) -> str:
        """`text` with the mark for the beginning of a secret that its end is."""
        for form, mark in self._found:
            start = text.find(form[:SEARCHED_FROM], max(0, len(text) - len(form)))
            while start >= 0 and not form.startswith(text[start:]):
                start = text.find(form[:SEARCHED_FROM], start + 1)
            if start >= 0:
                return text[:start] + mark
        return text

    def number(self, value: Any) -> Any:
        """The mark where a number is a secret or holds one; else the number."""
        if not self._numeric or isinstance(value, bool) or not isinstance(value, int | float):
            return value
        text = repr(value)
        return value if (hidden := self(text)) == text else hidden


def _split(pieces: list[str], form: str, mark: str) -> Iterator[list[str]]:
    """The pieces, those of open text cut at every `form`."""
    for place, piece in enumerate(pieces):
        if place % 2 or form not in piece:
            yield [piece]
            continue
        parts = piece.split(form)
        yield [text for part in parts[:-1] for text in (part, mark)] + parts[-1:]


def throughout(
    value: Any, change: Callable[[str], str], number: Callable[[Any], Any] = lambda value: value
) -> Any:
    """A copy of the JSON value with every text in it, keys included, put through `change`, and each scalar through
    `number`. Raises ValidationFailed where it is nested too deeply to be walked."""

    def mapped(value: Any) -> Any:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, Mapping):
            return {change(key) if isinstance(key, str) else key: mapped(item) for key, item in value.items()}
        return [mapped(item) for item in value] if isinstance(value, list | tuple) else number(value)

    try:
        return mapped(value)
    except RecursionError as error:
        raise _refused("too_deep", "the value is nested too deeply to look for secrets in it") from error


def forms(secret: str) -> set[str]:
    """The texts in which `secret` may come back from a tool.

    As it is, without the blanks around it, each long line of it; percent-encoded as URLs and forms have it, once or
    twice; escaped as JSON (once or twice), HTML and Python write it; hexadecimal; Base64 at any alignment. A secret of
    less than SEARCHED_FROM characters has none: it is hidden only where it is the whole text.
    """
    if len(secret) < SEARCHED_FROM:
        return set()
    lines = {line.strip() for line in secret.splitlines() if len(line.strip()) >= LINE_FROM}
    found: set[str] = set()
    for text in {secret, secret.strip(), *lines}:
        if len(text) >= SEARCHED_FROM:
            found |= _forms_of_text(text)
    return found


def _forms_of_text(text: str) -> set[str]:
    if _PLAIN.fullmatch(text):
        return {text, *_packed(text.encode())}
    spelled = {text, *_escaped(text)}
    written = {form for one in spelled for form in _escaped(one)}
    packed = {form for one in spelled for form in _packed(one.encode())}
    return spelled | written | packed | set(_percent_encoded(text))


def _escaped(text: str) -> Iterator[str]:
    yield text
    for ascii_only in (True, False):
        written = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield from (written, written.replace("/", "\\/"))
    yield from (html.escape(text), html.escape(text, quote=False), repr(text)[1:-1])


def _percent_encoded(text: str) -> Iterator[str]:
    for encoded in (*(quote(text, safe=kept) for kept in _KEPT_IN_URLS), quote_plus(text)):
        for one in (encoded, _in_small_letters(encoded)):
            yield from (one, one.replace("%", "%25"))


def _in_small_letters(encoded: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda code: code.group().lower(), encoded)


def _packed(data: bytes) -> Iterator[str]:
    """Hexadecimal, and the Base64 characters that hold nothing but `data`, whatever stands before and after it."""
    yield from (data.hex(), data.hex().upper())
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).decode().rstrip("=")
        core = encoded[(0, 2, 3)[before] : (before + len(data)) * 8 // 6]
        for one in (core, core.replace("+", "-").replace("/", "_")):
            encoded = quote(one, safe="")
            yield from (one, one.replace("/", "\\/"), encoded, _in_small_letters(encoded))


def _mark(name: str) -> str:
    return f"[SECRET:{name}]"


def _refused(code: str, detail: str) -> ValidationFailed:
    return ValidationFailed(detail, errors=(Problem(code, detail),))
