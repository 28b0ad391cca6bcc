"""JSON with the line and column of every value, which the standard library's parser does not give."""

from __future__ import annotations

import math
import re
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined] # public, and absent from the stubs
from typing import Any

Place = tuple[int, int]
"""Line and column, both from 1."""

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"(-?(?:0|[1-9]\d*))(\.\d+)?([eE][-+]?\d+)?", re.ASCII)
_WORDS = {"true": True, "false": False, "null": None}
_MAX_DIGITS = 300


class NotJson(Exception):
    """The text is not JSON; `detail` says why and `place` where."""

    def __init__(self, detail: str, place: Place) -> None:
        super().__init__(detail)
        self.detail, self.place = detail, place


def read_json(text: str, max_depth: int, max_nodes: int) -> tuple[Any, dict[str, Place], dict[str, Place]]:
    """The value of a JSON text (RFC 8259), and the places of values and keys by pointer. Raises NotJson."""
    reader = _Reader(text, max_depth, max_nodes)
    value = reader.value("", 0)
    reader.space()
    if reader.at < len(text):
        raise reader.fault("something stands after the end of the JSON value")
    return value, reader.values, reader.keys


class _Reader:
    """A position in one text."""

    def __init__(self, text: str, max_depth: int, max_nodes: int) -> None:
        self._text = text
        self._max_depth, self._max_nodes = max_depth, max_nodes
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._line = 0
        self.at = 0
        self.values: dict[str, Place] = {}
        self.keys: dict[str, Place] = {}

    def place(self) -> Place:
        """Where the reader stands; it only ever moves on."""
        while self._line + 1 < len(self._starts) and self._starts[self._line + 1] <= self.at:
            self._line += 1
        return self._line + 1, self.at - self._starts[self._line] + 1

    def fault(self, detail: str) -> NotJson:
        """The error `detail` at this place."""
        return NotJson(f"not valid JSON: {detail}", self.place())

    def space(self) -> str:
        """Skip white space; the next character, or nothing at the end."""
        match = _SPACE.match(self._text, self.at)
        self.at = match.end() if match else self.at
        return self._text[self.at : self.at + 1]

    def value(self, pointer: str, depth: int) -> Any:
        """The value that begins here."""
        first = self.space()
        self.values[pointer] = self.place()
        if depth > self._max_depth or len(self.values) > self._max_nodes:
            raise self.fault(f"at most {self._max_depth} levels and {self._max_nodes} values are allowed")
        if first == "{":
            return self._object(pointer, depth)
        if first == "[":
            return self._array(pointer, depth)
        return self._string() if first == '"' else self._word_or_number()

    def _object(self, pointer: str, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        self.at += 1
        if self.space() == "}":
            self.at += 1
            return members
        while True:
            if self.space() != '"':
                raise self.fault("a key in double quotes is missing here")
            place = self.place()
            key = self._string()
            if key in members:
                raise NotJson(f"'{key[:80]}' stands twice in the same object", place)
            below = f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"
            self.keys[below] = place
            self._expect(":", "':'")
            members[key] = self.value(below, depth + 1)
            if self._more("}"):
                continue
            return members

    def _array(self, pointer: str, depth: int) -> list[Any]:
        items: list[Any] = []
        self.at += 1
        if self.space() == "]":
            self.at += 1
            return items
        while True:
            items.append(self.value(f"{pointer}/{len(items)}", depth + 1))
            if not self._more("]"):
                return items

    def _more(self, end: str) -> bool:
        """Past a comma: True. Past the end: False."""
        found = self.space()
        if found not in (",", end):
            raise self.fault(f"',' or '{end}' is missing here")
        self.at += 1
        return found == ","

    def _expect(self, character: str, shown: str) -> None:
        if self.space() != character:
            raise self.fault(f"{shown} is missing here")
        self.at += 1

    def _string(self) -> str:
        try:
            text, self.at = scanstring(self._text, self.at + 1, True)
        except JSONDecodeError as error:
            raise self.fault(
                "this string is not closed, or holds a control character or a wrong escape"
            ) from error
        return str(text)

    def _word_or_number(self) -> Any:
        for word, meaning in _WORDS.items():
            if self._text.startswith(word, self.at):
                self.at += len(word)
                return meaning
        match = _NUMBER.match(self._text, self.at)
        if match is None or len(match.group()) > _MAX_DIGITS:
            raise self.fault(
                "a value is missing here" if match is None else "this number has too many digits"
            )
        whole, fraction, exponent = match.groups()
        number = float(match.group()) if fraction or exponent else int(whole)
        if not math.isfinite(number):
            raise self.fault("this number is too large")
        self.at = match.end()
        return number
