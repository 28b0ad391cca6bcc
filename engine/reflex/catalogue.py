"""The pattern data as values: what is looked for, where it comes from, and what proves it.

Patterns are rows of `patterns/*.toml`: a name, a kind or family, an RE2 expression, its source, texts in
which it must be found and texts in which it must not. The tests and the reference page are generated from
the same rows. `{word}` inside an expression stands for the fragment of that name in the same file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

FILES = ("pii", "secrets", "injection", "languages", "evasion")

_CATEGORIES = {"kind": "pii", "family": "injection", "undo": "evasion"}  # by the member that a row must have

_FRAGMENT = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One row. `regex` is what RE2 compiles; its first group, if it has one, is the value that is found.

    `check` names the exact test in `engine.reflex.checks` that a hit must still pass ("" for none). A row with a
    `context` counts only beside a match of that expression: at most `reach` characters after it, or in the column
    that it heads. A `trigger` is the short beginning of a value that may be long. The hits of a `whole` row hold
    no smaller ones. A `written` row is matched against the text unfolded, for scripts without ASCII look-alikes.
    The `kind` of category "evasion" is a way back in `engine.reflex.evasion`. `confidence` (0..1) belongs to PII,
    `severity` to injection. In `match`, « and » enclose what must be found.
    """

    name: str
    category: str
    kind: str
    regex: str
    source: str
    match: tuple[str, ...]
    no_match: tuple[str, ...]
    check: str = ""
    context: str = ""
    reach: int = 32
    trigger: str = ""
    whole: bool = False
    written: bool = False
    confidence: float = 0.0
    severity: str = ""


@cache
def patterns() -> tuple[Pattern, ...]:
    """Every pattern of the package, in file order."""
    return tuple(row for name in FILES for row in _read(name))


@cache
def pii_kinds() -> frozenset[str]:
    """The kinds of personal data and credentials that the gate knows."""
    return frozenset(row.kind for row in patterns() if row.category == "pii")


@cache
def injection_families() -> frozenset[str]:
    """The families of prompt injection that the gate knows."""
    return frozenset(row.kind for row in patterns() if row.category == "injection")


def _read(name: str) -> list[Pattern]:
    text = resources.files("engine.reflex").joinpath("patterns", f"{name}.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    fragments = expanded(document.get("fragments", {}))
    return [_pattern(row, fragments) for row in document["pattern"]]


def _pattern(row: dict[str, Any], fragments: Mapping[str, str]) -> Pattern:
    named = next(name for name in _CATEGORIES if name in row)
    return Pattern(
        name=row["name"],
        category=_CATEGORIES[named],
        kind=row[named],
        regex=filled(row["regex"], fragments),
        source=row["source"],
        match=tuple(row["match"]),
        no_match=tuple(row.get("no_match", ())),
        check=row.get("check", ""),
        context=filled(row.get("context", ""), fragments),
        trigger=row.get("trigger", ""),
        whole=row.get("whole", False),
        written=row.get("written", False),
        reach=row.get("reach", 32),
        confidence=row.get("confidence", 0.0),
        severity=row.get("severity", ""),
    )


def expanded(fragments: Mapping[str, str]) -> dict[str, str]:
    """Fragments as groups; each may use those written before it. Raises KeyError for another."""
    known: dict[str, str] = {}
    for name, regex in fragments.items():
        known[name] = f"(?:{filled(regex, known)})"
    return known


def filled(regex: str, fragments: Mapping[str, str]) -> str:
    """`regex` on one line, with the fragments that it names. Raises KeyError for an unknown one."""
    return _FRAGMENT.sub(lambda found: fragments[found[1]], regex.replace("\n", ""))
