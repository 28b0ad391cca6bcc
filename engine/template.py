"""Templates: JSON values whose texts hold `${expression}`, compiled once and rendered for every run.

A text that is exactly one `${…}` becomes the value and keeps its type; within a longer text the value becomes
text (a string as it is, null nothing, anything else compact JSON). `$${` is a literal `${`. Braces are
matched with quotes respected, so `${ {a: '}'} }` is one expression. Keys of objects are not rendered.

Secrets go through templates, schemas and the gate as opaque placeholders: see engine/secrets.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.errors import Problem, ValidationFailed
from engine.expressions import Expression, Path, compile_expression
from engine.expressions.values import Refused, compact_json, copied

Render = Callable[[Any], Any]
Part = str | Expression

_MAX_DEPTH = 64
_QUOTES = "'\"`"


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template; two of the same source are equal.

    `expressions` are those it holds, each with the JSON pointer of its text within the template.
    """

    source: Any
    expressions: tuple[tuple[str, Expression], ...] = field(compare=False, repr=False)
    _render: Render = field(compare=False, repr=False)

    @property
    def constant(self) -> bool:
        """Whether every rendering is the same."""
        return not self.expressions

    @property
    def references(self) -> frozenset[str]:
        """The roots it uses with one key below, as `Expression.references`."""
        return frozenset().union(*(expression.references for _, expression in self.expressions))

    @property
    def paths(self) -> frozenset[Path]:
        """The places of the context it reads."""
        return frozenset().union(*(expression.paths for _, expression in self.expressions))

    def render(self, context: Mapping[str, Any]) -> Any:
        """The value in `context`.

        Containers written in the template are new with every rendering; values that an expression takes out
        of the context are the context's own and to be treated as read-only. Raises ValidationFailed where a
        function has no answer.
        """
        return self._render(context)


def compile_template(obj: Any) -> Template:
    """The template that the JSON value `obj` is.

    Raises ValidationFailed with a problem for each faulty text: the pointer counts from `obj`, the column
    within the text.
    """
    compiler = _Compiler()
    render = compiler.compile(obj, "", 0)
    if compiler.problems:
        raise ValidationFailed(compiler.problems[0].detail, errors=tuple(compiler.problems))
    return Template(obj, tuple(compiler.expressions), render)


def render_templates(obj: Any, context: Mapping[str, Any]) -> Any:
    """`obj` rendered in `context`: compile and render in one go (seed: engine/template.py)."""
    return compile_template(obj).render(context)


def escape(text: str) -> str:
    """The template that renders to `text`, whatever it holds."""
    return text.replace("${", "$${")


class _Compiler:
    """Gathers the expressions and the problems of one template."""

    def __init__(self) -> None:
        self.expressions: list[tuple[str, Expression]] = []
        self.problems: list[Problem] = []

    def compile(self, obj: Any, pointer: str, depth: int) -> Render:
        if depth > _MAX_DEPTH:
            raise ValidationFailed(f"a template is nested at most {_MAX_DEPTH} levels deep")
        before = len(self.expressions) + len(self.problems)
        if isinstance(obj, str):
            return self._text(obj, pointer)
        if isinstance(obj, Mapping):
            render: Render = self._object(obj, pointer, depth)
        elif isinstance(obj, list | tuple):
            render = _list([self.compile(item, f"{pointer}/{i}", depth + 1) for i, item in enumerate(obj)])
        else:
            return _constant(obj)
        return render if len(self.expressions) + len(self.problems) > before else _constant(_plain(obj))

    def _object(self, obj: Mapping[str, Any], pointer: str, depth: int) -> Render:
        return _object(
            {key: self.compile(value, f"{pointer}/{_token(key)}", depth + 1) for key, value in obj.items()}
        )

    def _text(self, text: str, pointer: str) -> Render:
        if "${" not in text:
            return _constant(text)
        parts = list(self._parts(text, pointer))
        self.expressions += [(pointer, part) for part in parts if isinstance(part, Expression)]
        if len(parts) == 1 and isinstance(parts[0], Expression):
            return parts[0].evaluate
        if not any(isinstance(part, Expression) for part in parts):
            return _constant("".join(part for part in parts if isinstance(part, str)))
        return _text([part.evaluate if isinstance(part, Expression) else part for part in parts])

    def _parts(self, text: str, pointer: str) -> Iterator[Part]:
        begins = 0
        try:
            for start, part in _split(text):
                begins = start or 0
                yield part if start is None else compile_expression(part)
        except ValidationFailed as error:
            fault = error.errors[0]
            column = begins + (fault.column or 1) if fault.code == "expression_syntax" else fault.column
            self.problems.append(Problem(fault.code, fault.detail, pointer, 1, column))


def _split(text: str) -> Iterator[tuple[int | None, str]]:
    """The parts of `text`: (None, literal) and (position, expression). Raises ValidationFailed."""
    literal, position = "", 0
    while True:
        found = text.find("${", position)
        if found < 0:
            break
        if found and text[found - 1] == "$" and found > position:
            literal += text[position : found - 1] + "${"
            position = found + 2
            continue
        literal += text[position:found]
        end = _closing(text, found + 2)
        if literal:
            yield None, literal
        yield found + 2, text[found + 2 : end]
        literal, position = "", end + 1
    literal += text[position:]
    if literal:
        yield None, literal


def _closing(text: str, position: int) -> int:
    """Where the `}` stands that closes the expression beginning at `position`."""
    depth, quote = 0, ""
    start = position
    while position < len(text):
        character = text[position]
        if quote:
            position += character == "\\"  # the next character is escaped
            quote = "" if character == quote else quote
        elif character in _QUOTES:
            quote = character
        elif character == "}" and not depth:
            return position
        else:
            depth += (character == "{") - (character == "}")
        position += 1
    reason = f"the closing {quote} is missing" if quote else "the closing } is missing"
    detail = f"template, column {start - 1}: {reason}; a literal ${{ is written $${{"
    raise ValidationFailed(detail, errors=(Problem("template_syntax", detail, "", 1, start - 1),))


def _constant(value: Any) -> Render:
    if not isinstance(value, dict | list):
        return lambda _: value
    if not any(
        isinstance(item, dict | list) for item in (value.values() if isinstance(value, dict) else value)
    ):
        return lambda _: value.copy()  # flat: one C call
    return lambda _: copied(value)


def _object(members: Mapping[str, Render]) -> Render:
    pairs = list(members.items())
    return lambda context: {key: render(context) for key, render in pairs}


def _list(items: list[Render]) -> Render:
    return lambda context: [render(context) for render in items]


def _text(parts: list[str | Render]) -> Render:
    return lambda context: "".join(
        [part if isinstance(part, str) else _as_text(part(context)) for part in parts]
    )


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return compact_json(value)
    except Refused as refused:
        raise ValidationFailed(f"template: {refused}") from refused


def _plain(obj: Any) -> Any:
    """Constant text loses its escapes; tuples become lists, as JSON has them."""
    if isinstance(obj, str):
        return "".join(part for _, part in _split(obj))
    if isinstance(obj, Mapping):
        return {key: _plain(value) for key, value in obj.items()}
    return [_plain(item) for item in obj] if isinstance(obj, list | tuple) else obj


def _token(key: str) -> str:
    """A key as a JSON pointer writes it (RFC 6901 section 3)."""
    return str(key).replace("~", "~0").replace("/", "~1")
