"""Reading a document part by part without stopping at the first fault: every problem, each with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from engine.contract.wording import closest
from engine.durations import parse_duration
from engine.errors import Problem, ValidationFailed
from engine.expressions import Expression, compile_expression
from engine.pipeline.documents import Document
from engine.template import Template, compile_template

T = TypeVar("T")

ROOTS = ("params", "steps", "status", "now", "run", "trigger", "event", "item", "index", "secrets", "error")
_LITERALS = ("true", "false", "null")


@dataclass(frozen=True, slots=True)
class Scope:
    """What the expressions of one place may name: roots, outputs (ids and save_as), and the ids themselves."""

    roots: frozenset[str]
    steps: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()

    def within(self, *roots: str) -> Scope:
        """The same place with more roots."""
        return Scope(self.roots | set(roots), self.steps, self.ids)

    def without(self, *roots: str) -> Scope:
        """The same place with fewer roots."""
        return Scope(self.roots - set(roots), self.steps, self.ids)


@dataclass(slots=True)
class Reading:
    """One document being read. `place_of` maps pointers of `v1` to pointers of the document as written; `tells`
    decides of each problem, its pointer that of `v1`, whether it is noted.
    """

    document: Document
    v1: Mapping[str, Any]
    place_of: Callable[[str], str] = str
    problems: list[Problem] = field(default_factory=list)
    tells: Callable[[Problem], bool] | None = None

    def report(self, code: str, detail: str, pointer: str, *, column: int | None = None) -> None:
        """Note a problem at `pointer` of the v1 form; `column` counts from 1 within the text there."""
        if self.tells is not None and not self.tells(Problem(code, detail, pointer)):
            return
        written = self.place_of(pointer)
        text = at_pointer(self.v1, pointer)
        if column is not None and isinstance(text, str):
            place = self.document.position_within(written, text, column)
        else:
            place = self.document.position(written, key=code == "unknown_key")
        line, character = place or (None, None)
        self.problems.append(Problem(code, detail, written, line, character))

    def attempt(self, pointer: str, make: Callable[..., T], *arguments: Any) -> T | None:
        """What `make(*arguments)` gives, or None and its problems, pointers relative to `pointer`."""
        try:
            return make(*arguments)
        except ValidationFailed as error:
            for fault in error.errors or (Problem(error.code, error.message),):
                self.report(fault.code, fault.detail, pointer + fault.pointer, column=fault.column)
            return None

    def duration(self, pointer: str) -> timedelta | None:
        """The duration at `pointer`, or None where there is none; zero is a fault."""
        value = at_pointer(self.v1, pointer)
        found = None if value is None else self.attempt(pointer, parse_duration, value)
        if found == timedelta(0):
            self.report("out_of_range", "must be longer than nothing", pointer)
        return found

    def template(self, pointer: str, value: Any, scope: Scope) -> Template | None:
        """The template `value` that stands at `pointer`, its names checked against `scope`."""
        found = self.attempt(pointer, compile_template, value)
        # One faulty text does not keep the names in the others from being checked.
        templates = [("", found)] if found else _each_text(value, "")
        for begins, template in templates:
            for below, expression in template.expressions:
                self.check_names(pointer + begins + below, expression, scope)
        return found

    def expression(self, pointer: str, text: str, scope: Scope) -> Expression | None:
        """The expression `text`, bare or within `${ }`, its names checked against `scope`."""
        found = self.attempt(pointer, compile_condition, text)
        if found is not None:
            self.check_names(pointer, found, scope)
        return found

    def check_names(self, pointer: str, expression: Expression, scope: Scope) -> None:
        """Report the roots and steps that `expression` reads and `scope` does not have."""
        for path in sorted(expression.paths):
            fault = _name_fault(path, scope)
            if fault is not None:
                text = at_pointer(self.v1, pointer)
                at = text.find(".".join(path[:2])) if isinstance(text, str) else -1
                self.report(*fault, pointer, column=at + 1 if at >= 0 else None)


def compile_condition(text: str) -> Expression:
    """An expression that may, but need not, stand within `${ }`."""
    stripped = text.strip()
    if stripped.startswith("${"):
        template = compile_template(stripped)
        if len(template.expressions) == 1 and stripped == f"${{{template.expressions[0][1].text}}}":
            return template.expressions[0][1]
        detail = "an expression, not a text with ${ } in it: compare like steps.weather.temperature > 25"
        raise ValidationFailed(detail, errors=(Problem("expression_syntax", detail),))
    return compile_expression(text)


def at_pointer(value: Any, pointer: str) -> Any:
    """The part of `value` that an RFC 6901 pointer names, or None."""
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def quoted(names: Iterable[str]) -> str:
    """Names as a message lists them."""
    return ", ".join(f"'{name}'" for name in names)


def _each_text(value: Any, pointer: str) -> Iterator[tuple[str, Template]]:
    """The texts within a template that compile by themselves, with their pointers."""
    if isinstance(value, str):
        with suppress(ValidationFailed):
            yield pointer, compile_template(value)
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, item in items:
        yield from _each_text(item, f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}")


def _name_fault(path: tuple[str, ...], scope: Scope) -> tuple[str, str] | None:
    """Code and detail of what is wrong with the names of `path`."""
    if not path:
        return "unknown_root", "'@' alone is everything there is: name what is needed, such as params"
    root, *rest = path
    if root not in scope.roots:
        return "unknown_root", _root_detail(root, scope)
    if root == "secrets" and (len(rest) != 1 or rest[0] == "*"):
        return "unknown_root", "secrets are read one by one, as secrets.NAME"
    known = {"steps": scope.steps, "status": scope.ids}.get(root)
    if known is not None and rest and rest[0] not in known and rest[0] != "*":
        return "unknown_step", f"there is no step '{rest[0]}'{closest(rest[0], sorted(known))}"
    return None


def _root_detail(root: str, scope: Scope) -> str:
    if root in ("item", "index"):
        return f"'{root}' exists only in the `with` of a step that has `foreach`"
    if root == "error":
        return "'error' exists only in the steps of `on_failure`, and in `on_error: {value: …}`"
    if root == "secrets":
        return "secrets cannot be read here: what stands here is stored, and a secret never is; name it in `with`"
    if root in _LITERALS:
        return f"'{root}' here is a name; the value is written `{root}`, in backticks"
    if root in scope.steps:
        return f"unknown name '{root}': the output of that step is steps.{root}"
    known = [name for name in ROOTS if name in scope.roots]
    listed = f"; known are {', '.join(known)}"
    return f"unknown name '{root}'{closest(root, known) or listed}"
