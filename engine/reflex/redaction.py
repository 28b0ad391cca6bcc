"""A JSON value with marks where personal data stood; whatever holds none is shared with the original."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.reflex.walk import Path, Piece

Redaction = tuple[Piece, int, int, str]
"""A piece, the half-open span in it, and the mark that takes its place."""


def redacted(value: Any, redactions: list[Redaction]) -> Any:
    """`value` with every span replaced. Strings stay strings; a number becomes its mark; keys are renamed.

    Containers on the way to a change are copied, all others are the same objects.
    """
    texts: dict[Path | None, list[tuple[int, int, str]]] = {}
    keys: dict[Path | None, list[tuple[int, int, str]]] = {}
    for piece, start, end, mark in redactions:
        (keys if piece.key else texts).setdefault(piece.path, []).append(
            (start + piece.offset, end + piece.offset, mark)
        )
    root = [value]
    copies: dict[int, Any] = {}
    for path, spans in texts.items():
        _put(root, path, spans, copies)
    for path in sorted((path for path in keys if path), key=_depth, reverse=True):
        _rename(root, path, keys[path], copies)
    return root[0]


def _put(
    root: list[Any], path: Path | None, spans: list[tuple[int, int, str]], copies: dict[int, Any]
) -> None:
    container, step = _place(root, path, copies)
    old = container[step]
    container[step] = _spliced(old, spans) if isinstance(old, str) else spans[0][2]


def _rename(root: list[Any], path: Path, spans: list[tuple[int, int, str]], copies: dict[int, Any]) -> None:
    """The member keeps its place; a name that is taken gets a number."""
    container, old = _place(root, path, copies)
    name = wanted = _spliced(str(old), spans)
    number = 1
    while name in container:
        number += 1
        name = f"{wanted} ({number})"
    members = [(name if key == old else key, member) for key, member in container.items()]
    container.clear()
    container.update(members)


def _place(root: list[Any], path: Path | None, copies: dict[int, Any]) -> tuple[Any, Any]:
    """The (copied) container that `path` ends in, and the step in it."""
    steps: list[str | int] = []
    while path:
        steps.append(path.step)
        path = path.parent
    container: Any = root
    step: Any = 0
    for following in reversed(steps):
        container[step] = _own(container[step], copies)
        container, step = container[step], following
    return container, step


def _own(node: Any, copies: dict[int, Any]) -> Any:
    """A copy of `node` made at most once; `copies` knows those made, by their identity."""
    if id(node) in copies:
        return node
    copy = dict(node) if isinstance(node, Mapping) else list(node)
    copies[id(copy)] = copy
    return copy


def _spliced(text: str, spans: list[tuple[int, int, str]]) -> str:
    parts: list[str] = []
    done = 0
    for start, end, mark in sorted(spans):
        parts += (text[done:start], mark)
        done = max(done, end)  # spans may overlap: nothing of any of them may be left
    return "".join(parts) + text[done:]


def _depth(path: Path | None) -> int:
    depth = 0
    while path:
        depth, path = depth + 1, path.parent
    return depth
