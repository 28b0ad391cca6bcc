"""Definitions as text: YAML 1.2 or JSON, several documents in one, every value with its line and column.

Values are built from the parser's events, so nothing in a text can name a Python type or grow: tags are
refused, aliases are copied and counted, depth and size are bounded. Scalars follow YAML 1.2's core schema:
`on`, `12:30` and `2026-12-01` are texts, not a boolean, a number or a date.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from engine.errors import Malformed, Problem
from engine.expressions.values import copied
from engine.pipeline.json_text import NotJson, Place, read_json

MAX_TEXT = 1_000_000  # characters of one text
MAX_YAML = 300_000  # its parser takes some 10 us for a character, JSON's a hundredth of that
MAX_NODES = 50_000  # values of one text, copies by aliases included
MAX_DEPTH = 50

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?\d+", re.ASCII)
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.\d+|\d+(?:\.\d*)?)(?:[eE][-+]?\d+)?", re.ASCII)
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", re.ASCII)
_MAX_DIGITS = 300


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its plain JSON value, where it came from, and where its parts stand in the text."""

    value: Any
    source: str = "<document>"
    _values: Mapping[str, Place] = field(default_factory=dict, repr=False, compare=False)
    _keys: Mapping[str, Place] = field(default_factory=dict, repr=False, compare=False)
    _lines: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def position(self, pointer: str, *, key: bool = False) -> Place | None:
        """Line and column, from 1, of the value at `pointer` (with `key`, of its key).

        What is not in the text is placed at the nearest thing around it; None when there was no text.
        """
        while key and pointer in self._keys:
            return self._keys[pointer]
        while pointer and pointer not in self._values:
            pointer = pointer.rpartition("/")[0]
        return self._values.get(pointer)

    def position_within(self, pointer: str, text: str, column: int) -> Place | None:
        """Where the character `column` (from 1) of the text at `pointer` stands, or the text's own place."""
        place = self.position(pointer)
        if place is None or pointer not in self._values:
            return place
        line, start = place
        raw = self._lines[line - 1] if line <= len(self._lines) else ""
        begins = raw.find(text, start - 1, start + len(text))
        return place if begins < 0 else (line, begins + column)


def load_documents(text: str, source: str = "<text>") -> list[Document]:
    """The documents of a YAML or JSON text; empty ones are left out.

    Raises Malformed with line and column where the text is neither, repeats a key, or is too large or deep.
    """
    if len(text) > MAX_TEXT:
        raise _malformed("too_large", f"a text has at most {MAX_TEXT} characters", 1, 1, source)
    lines = tuple(text.split("\n"))
    fault: NotJson | None = None
    if text.lstrip()[:1] in ("{", "["):
        try:
            value, values, keys = read_json(text, MAX_DEPTH, MAX_NODES)
            return [Document(value, source, values, keys, lines)]
        except NotJson as error:
            fault = error
    if fault is not None and source.endswith(".json"):
        raise _malformed("json", fault.detail, *fault.place, source)
    if len(text) > MAX_YAML:
        detail = f"a YAML text has at most {MAX_YAML} characters: give it as several files, or as JSON"
        raise _malformed("too_large", detail, 1, 1, source)
    return [Document(*parts, lines) for parts in _yaml_documents(text, source) if parts[0] is not None]


def _yaml_documents(text: str, source: str) -> Iterator[tuple[Any, str, dict[str, Place], dict[str, Place]]]:
    reader = _Reader(source)
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            if isinstance(event, DocumentStartEvent):
                reader.begin()
            elif isinstance(event, DocumentEndEvent):
                yield reader.value, source, reader.values, reader.keys
            else:
                reader.take(event)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place: Place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _malformed("yaml", _yaml_detail(error), *place, source) from error
    except (YAMLError, ValueError) as error:
        raise _malformed(
            "yaml", "the text is not YAML: it holds characters that YAML forbids", 1, 1, source
        ) from error


def _yaml_detail(error: MarkedYAMLError) -> str:
    said = " ".join(str(part) for part in (error.problem, error.context) if part)
    return f"not valid YAML: {' '.join(said.split())[:200]}"


def _malformed(code: str, detail: str, line: int, column: int, source: str) -> Malformed:
    where = f"{source}:{line}:{column}"
    return Malformed(f"{where}: {detail}", errors=(Problem(code, detail, "", line, column),))


def is_plain_text(text: str) -> bool:
    """Whether `text` is read back as itself when it stands without quotes."""
    return text == _resolved(text) and not _NO_NUMBER.fullmatch(text) and text.isprintable()


def _resolved(text: str) -> Any:
    """A scalar without quotes by YAML 1.2's core schema (section 10.3.2)."""
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if len(text) > _MAX_DIGITS:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text) if math.isfinite(float(text)) else text
    return text


@dataclass(slots=True)
class _Open:
    """A list or an object under construction. `size` counts the values in it, `key` waits for its value."""

    value: Any
    pointer: str
    anchor: str | None
    size: int = 1
    key: str | None = None


class _Reader:
    """Builds the documents of one text from the events of its parser."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._nodes = 0
        self.begin()

    def begin(self) -> None:
        """A new document: anchors do not reach across."""
        self.value: Any = None
        self.values: dict[str, Place] = {}
        self.keys: dict[str, Place] = {}
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}

    def take(self, event: Event) -> None:
        """Go on with the parser's next event."""
        place = (event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            self._check_tag(event, place)
            self._enter({} if isinstance(event, MappingStartEvent) else [], event.anchor, place)
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            self._leave()
        elif isinstance(event, ScalarEvent):
            self._check_tag(event, place)
            self._scalar(event, place)
        elif isinstance(event, AliasEvent):
            self._alias(event.anchor, place)

    def _fail(self, code: str, detail: str, place: Place) -> Malformed:
        return _malformed(code, detail, *place, self._source)

    def _check_tag(self, event: Any, place: Place) -> None:
        if event.tag is not None and event.tag != "!":
            raise self._fail(
                "tag", f"tags like {str(event.tag)[:40]} are not allowed: write the value itself", place
            )

    def _scalar(self, event: ScalarEvent, place: Place) -> None:
        if self._awaits_key():
            self._key(event.value, place)
            return
        plain = bool(event.implicit[0])
        value = self._plain(event.value, place) if plain else event.value
        self._count(1, place)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1)
        self._add(value, place)

    def _plain(self, text: str, place: Place) -> Any:
        if _NO_NUMBER.fullmatch(text):
            raise self._fail("number", f"{text} is not a number that JSON has", place)
        return _resolved(text)

    def _awaits_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].key is None

    def _key(self, text: str, place: Place) -> None:
        top = self._open[-1]
        if text in top.value:
            raise self._fail("duplicate_key", f"'{text[:80]}' stands twice in the same object", place)
        top.key = text
        top.value[text] = None
        self.keys[self._pointer()] = place

    def _pointer(self) -> str:
        """Where the next value goes."""
        if not self._open:
            return ""
        top = self._open[-1]
        token = len(top.value) if top.key is None else top.key.replace("~", "~0").replace("/", "~1")
        return f"{top.pointer}/{token}"

    def _count(self, size: int, place: Place) -> None:
        self._nodes += size
        if self._nodes > MAX_NODES:
            raise self._fail(
                "too_large", f"a text holds at most {MAX_NODES} values, copies by aliases included", place
            )
        for each in self._open:
            each.size += size

    def _enter(self, value: Any, anchor: str | None, place: Place) -> None:
        if self._awaits_key():
            raise self._fail("key", "a key is a text, not a list or an object", place)
        if len(self._open) >= MAX_DEPTH:
            raise self._fail("too_deep", f"a document is nested at most {MAX_DEPTH} levels deep", place)
        self._count(1, place)
        pointer = self._pointer()
        self._add(value, place)
        self._open.append(_Open(value, pointer, anchor))

    def _leave(self) -> None:
        done = self._open.pop()
        if done.anchor:
            self._anchors[done.anchor] = (done.value, done.size)

    def _alias(self, name: str, place: Place) -> None:
        if self._awaits_key():
            raise self._fail("key", "a key is a text, not an alias", place)
        if name not in self._anchors:
            raise self._fail("alias", f"*{name[:80]} has no anchor &{name[:80]} before it", place)
        value, size = self._anchors[name]
        self._count(size, place)
        self._add(copied(value), place)

    def _add(self, value: Any, place: Place) -> None:
        self.values[self._pointer()] = place
        if not self._open:
            self.value = value
            return
        top = self._open[-1]
        if top.key is None:
            top.value.append(value)
        else:
            top.value[top.key] = value
            top.key = None
