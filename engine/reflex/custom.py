"""An operator's own patterns: rows in the form of `patterns/*.toml`, checked before they count.

    [[pattern]]
    name = "employee_id.badge"        # the rule that verdicts name
    kind = "employee_id"              # what policies allow and marks show: [EMPLOYEE_ID]
    regex = '''\\bEMP-\\d{6}\\b'''
    words = ["badge", "employee"]     # optional: counts only after one of these
    check = "luhn"                    # optional
    match = ["badge «EMP-204417»"]    # at least one text in which it must be found
    no_match = ["EMP-20"]

`replace = true` puts the row in the place of the package's row of that name. Faults are collected, none is repaired.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from re2 import _re2

from engine.errors import Problem, ValidationFailed
from engine.reflex.catalogue import Pattern, expanded, filled, injection_families, patterns
from engine.reflex.checks import CHECKS
from engine.reflex.findings import SEVERITIES

MOST_ROWS = 200
LONGEST_REGEX = 4_000
LARGEST_PROGRAM = 15_000
"""Instructions that RE2 may need for one expression, as it counts them: `\\d{4}` has some ten."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}(?:\.[a-z0-9_]{1,62}){0,3}", re.ASCII)
_KIND = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
_MEMBERS = {
    "name": str, "kind": str, "family": str, "regex": str, "source": str, "match": list, "no_match": list,
    "check": str, "context": str, "words": list, "reach": int, "trigger": str, "whole": bool, "written": bool,
    "confidence": (int, float), "severity": str, "replace": bool,
}  # fmt: skip
_EMPTY_IN = (b"", b"a A1-._@: ")
_REACH = range(1, 257)
_FORM = "a lower-case word of letters, digits and _, as employee_id"


@dataclass(frozen=True, slots=True)
class Custom:
    """A row of an operator's file; `replaces` says whether it stands in the place of the package's row of its name."""

    row: Pattern
    replaces: bool


def parse_rows(text: str, source: str) -> tuple[Custom, ...]:
    """The rows of a file that `source` names in errors. Raises ValidationFailed with every fault."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValidationFailed(f"{source}: not TOML: {error}") from error
    problems = list(_document_faults(document))
    if problems:
        raise refusal(source, problems)
    fragments = _fragments(document, source)
    read = [_Row(number, row, fragments) for number, row in enumerate(document["pattern"])]
    problems = [problem for row in read for problem in row.faults()] + list(_twice(read))
    if problems:
        raise refusal(source, problems)
    return tuple(row.custom() for row in read)


def refusal(source: str, problems: list[Problem]) -> ValidationFailed:
    """The one error for all faults of a file."""
    told = "; ".join(problem.detail for problem in problems[:3])
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return ValidationFailed(f"{source}: {told}{more}", errors=problems)


def _document_faults(document: Mapping[str, Any]) -> Iterator[Problem]:
    for name in document:
        if name not in ("pattern", "fragments"):
            detail = f"{name!r} is unknown: a file of patterns has [[pattern]] rows and [fragments]"
            yield Problem("unknown_key", detail, f"/{name}")
    rows = document.get("pattern")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        yield Problem("missing", "there is no [[pattern]] in it", "/pattern")
    elif len(rows) > MOST_ROWS:
        yield Problem("too_many", f"{len(rows)} rows; at most {MOST_ROWS} are taken", "/pattern")
    fragments = document.get("fragments", {})
    if not isinstance(fragments, dict) or not all(isinstance(text, str) for text in fragments.values()):
        yield Problem("type", "[fragments] are texts by name", "/fragments")


def _fragments(document: Mapping[str, Any], source: str) -> dict[str, str]:
    try:
        return expanded(document.get("fragments", {}))
    except KeyError as error:
        problem = Problem(
            "unknown_fragment", f"[fragments]: {error} is used before it is written", "/fragments"
        )
        raise refusal(source, [problem]) from error


def _twice(rows: list[_Row]) -> Iterator[Problem]:
    seen: set[str] = set()
    for row in rows:
        if row.name in seen:
            yield row.problem("name", f"the name {row.name!r} is taken by a row before it")
        seen.add(row.name)


class _Row:
    """One row as it was written, and what is wrong with it."""

    def __init__(self, number: int, given: Mapping[str, Any], fragments: Mapping[str, str]) -> None:
        self.number = number
        self.given = given
        self.fragments = fragments
        self.name = given["name"] if isinstance(given.get("name"), str) else ""
        self.category = "injection" if "family" in given else "pii"

    def problem(self, member: str, detail: str) -> Problem:
        """A fault of one member; the text names the row."""
        called = f"row {self.number + 1}" + (f" ({self.name})" if self.name else "")
        return Problem("invalid_pattern", f"{called}: {detail}", f"/pattern/{self.number}/{member}")

    def faults(self) -> Iterator[Problem]:
        """Everything that is wrong; of a row with members of a wrong type or without a needed one only that."""
        shape = list(self._shape())
        yield from shape
        if not shape:
            yield from self._naming()
            yield from self._measures()
            for member in ("regex", "context", "trigger"):
                if member in self.given:
                    yield from self._regex(member)
            if not all("«" in text and "»" in text for text in self.given["match"]):
                yield self.problem("match", "each text of match encloses what is to be found in « and »")

    def custom(self) -> Custom:
        """The row as the gate uses it; only without faults."""
        members = {field.name for field in fields(Pattern)} & set(self.given)
        values = {name: self.given[name] for name in members}
        values |= {name: tuple(self.given.get(name, ())) for name in ("match", "no_match")}
        values |= {name: filled(self.given.get(name, ""), self.fragments) for name in ("regex", "context")}
        if "words" in self.given:
            values["context"] = _any_of(self.given["words"])
        if self.category == "pii":
            values.setdefault("confidence", 0.85)
        values.setdefault("source", "custom")
        kind = self.given["family" if self.category == "injection" else "kind"]
        made = Pattern(**values | {"category": self.category, "kind": kind})
        return Custom(made, self.given.get("replace", False))

    def _shape(self) -> Iterator[Problem]:
        for member, value in self.given.items():
            kind: Any = _MEMBERS.get(member)
            if kind is None:
                yield self.problem(member, f"{member!r} is no member of a row{_meant(member, _MEMBERS)}")
            elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                yield self.problem(member, f"{member} is of another type")
            elif kind is list and not all(isinstance(each, str) and each for each in value):
                yield self.problem(member, f"{member} is a list of texts")
        for member in ("name", "regex", "match"):
            if not self.given.get(member):
                yield self.problem(member, f"{member} is missing")
        if ("kind" in self.given) == ("family" in self.given):
            yield self.problem("kind", "a row has a kind (personal data) or a family (injection)")

    def _naming(self) -> Iterator[Problem]:
        if not _NAME.fullmatch(self.name):
            yield self.problem("name", f"{self.name!r} is not of the form employee_id.badge")
        known = {row.name for row in patterns()}
        if self.given.get("replace") and self.name not in known:
            yield self.problem("replace", "the package has no row of this name to replace")
        if not self.given.get("replace") and self.name in known:
            yield self.problem(
                "name", "the package has a row of this name; say `replace = true` to replace it"
            )
        if self.category == "pii":
            kind = self.given["kind"]
            if not _KIND.fullmatch(kind) or kind in injection_families():
                yield self.problem(
                    "kind", f"{kind!r} is no name for a kind: {_FORM}, and no family of injection"
                )
        elif self.given["family"] not in injection_families():
            yield self.problem("family", f"{self.given['family']!r} is none of the families of injection")

    def _measures(self) -> Iterator[Problem]:
        check = self.given.get("check", "")
        if check not in CHECKS:
            yield self.problem("check", f"there is no check {check!r}{_meant(check, filter(None, CHECKS))}")
        if not 0 < self.given.get("confidence", 1) <= 1:
            yield self.problem("confidence", "confidence is above 0 and at most 1")
        if self.given.get("reach", 32) not in _REACH:
            yield self.problem("reach", f"reach is from {_REACH[0]} to {_REACH[-1]} characters")
        if (self.category == "injection") != (self.given.get("severity") in SEVERITIES):
            yield self.problem("severity", f"a family, and no kind, has a severity: {', '.join(SEVERITIES)}")
        if "words" in self.given and ("context" in self.given or not self.given["words"]):
            yield self.problem("words", "words are one or more, and in place of context")

    def _regex(self, member: str) -> Iterator[Problem]:
        try:
            regex = filled(self.given[member], self.fragments)
        except KeyError as error:
            yield self.problem(member, f"{member}: there is no fragment {error}")
            return
        groups = 1 if member == "regex" else LONGEST_REGEX
        fault = regex_fault(regex, groups=groups, utf8=self.given.get("written", False))
        if fault:
            yield self.problem(member, f"{member}: {fault}")


def regex_fault(regex: str, *, groups: int = 1, utf8: bool = False, largest: int = LARGEST_PROGRAM) -> str:
    """What keeps an expression from being one of the gate's; "" if nothing does.

    `utf8` is for what is compared with texts as they are: classes as \\pL are a hundred times larger there.
    """
    if len(regex) > LONGEST_REGEX:
        return f"{len(regex)} characters; at most {LONGEST_REGEX} are taken"
    if not utf8 and not regex.isascii():
        return "only ASCII: texts are matched with look-alikes and accents undone, other signs are never seen"
    compiled = _re2.RE2(regex.encode(), _options(utf8=utf8))
    if not compiled.ok():
        return f"not RE2: {compiled.error().decode(errors='replace')} (RE2 has no look-around and no back-references)"
    if compiled.ProgramSize() > largest:
        return f"too large: {compiled.ProgramSize()} instructions, at most {largest}; use smaller repetitions"
    if compiled.NumberOfCapturingGroups() > groups:
        return "more than one group: the one group is the value, write others as (?:…)"
    if any(_empty(compiled, text) for text in _EMPTY_IN):
        return "it matches the empty text, which is everywhere"
    return ""


def _empty(compiled: Any, text: bytes) -> bool:
    start = 0
    while start <= len(text):
        first, last = compiled.Match(_re2.RE2.Anchor.UNANCHORED, text, start, len(text))[0]
        if first < 0:
            return False
        if first == last:
            return True
        start = last
    return False


def _options(*, utf8: bool) -> Any:
    options = _re2.RE2.Options()
    encodings = _re2.RE2.Options.Encoding
    options.encoding = encodings.UTF8 if utf8 else encodings.LATIN1
    options.log_errors = False
    return options


def _meant(word: object, known: Iterable[str]) -> str:
    """The nearest of the known names, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(str(word), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"


def _any_of(words: list[str]) -> str:
    """An expression for any of these words, in either case, a blank, - or _ or nothing between their parts."""
    parts = (r"[ _-]{0,2}".join(map(re.escape, word.split())) for word in words)
    return rf"(?i)\b(?:{'|'.join(parts)})"
