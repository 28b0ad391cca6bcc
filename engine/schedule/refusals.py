"""How this room says no: one ValidationFailed that carries its Problem."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from engine.errors import Problem, ValidationFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHOWN = 60


def refusal(code: str, detail: str, pointer: str = "", line: int | None = None) -> ValidationFailed:
    """A ValidationFailed whose single problem says `detail`; `pointer` is relative to the schedule."""
    return ValidationFailed(detail, errors=(Problem(code, detail, pointer, line),))


def shown(value: object) -> str:
    """`value` as it may stand in a message: quoted, and never long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' Did you mean …?' for the nearest known word, or nothing."""
    folded = {name.casefold(): name for name in known}
    near = get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return f" Did you mean {folded[near[0]]!r}?" if near else ""
