"""The reference page of expressions: grammar, bounds, constructs and functions, from the code that evaluates them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from engine.expressions import functions
from engine.expressions.analysis import MAX_GROWTH
from engine.expressions.examples import CONSTRUCTS, CONTEXT, FUNCTIONS
from engine.expressions.parser import MAX_TEXT
from engine.expressions.values import MAX_ITEMS, MAX_STEPS, MAX_TEXT_RESULT

OPENING = """\
JMESPath with bare numbers, offsets of time and a few functions more. `if`, `when` and `filter` are one expression;
within a template each `${…}` holds one. There is no I/O, no chance and no clock: `now` is fixed for a run, so that a
retry renders alike. Why this language: [ADR 0002](../adr/0002-expression-dialect.md)."""

TRUTH = """\
## Truth

`if`, `when`, `filter`, `[? ]`, `&&`, `||` and `!` take any value: `null`, `false`, `""`, `[]` and `{}` are false, all
else is true, **0 included**. A missing key is null. `<`, `<=`, `>` and `>=` order two numbers or two texts; any other
pair compares to null, which is false. `==` and `!=` compare any two values, deeply, and 1 is not true."""

GRAMMAR = """\
expression  = path / expression "|" expression           ; lowest: what follows reads the result
            / value "||" value / value "&&" value / value compare value
            / "!" expression / expression offset
value       = expression / number                        ; bare numbers where values are compared, chosen or passed
compare     = "==" / "!=" / "<" / "<=" / ">" / ">="
path        = start *( "." member / index )
start       = name / "*" / index / list / object / call / literal / text / "@" / "(" expression ")"
member      = name / "*" / list / object / call
index       = "[" integer "]" / "[" slice "]" / "[*]" / "[]" / "[?" expression "]"
slice       = [integer] ":" [integer] [":" [integer]]
list        = "[" expression *( "," expression ) "]"
object      = "{" name ":" expression *( "," name ":" expression ) "}"
call        = word "(" [argument *( "," argument )] ")"
argument    = value / "&" expression                     ; &expression: applied to each element by its function
offset      = ( "+" / "-" ) 1*( integer unit )           ; now+1d12h
unit        = "s" / "m" / "h" / "d" / "w"
name        = word / DQUOTE JSON-characters DQUOTE        ; "my-step"
word        = ( letter / "_" ) *( letter / digit / "_" )
text        = "'" characters "'"                         ; \\' is a quote
literal     = "`" JSON "`"                               ; \\` is a backtick
number      = integer / fraction                         ; -3, 2.5, 1e3"""

PRECEDENCE = """\
From loose to tight: `|`, `||`, `&&`, comparison, offset, projection, `.`, `!`. So `!a.b` is `(!a).b`, which is null:
write `!(a.b)`. `duework validate` warns of it."""


def sections() -> Iterator[str]:
    """The page's parts after its opening."""
    yield f"## Grammar\n\n```text\n{GRAMMAR}\n```\n\n{PRECEDENCE}"
    yield TRUTH
    yield f"## Bounds\n\n{_bounds()}"
    shown = json.dumps(CONTEXT, indent=2, ensure_ascii=False)
    yield f"## Constructs\n\nThe examples of this page read\n\n```json\n{shown}\n```\n\n" + _table(
        ("What", "Expression", "Result"),
        [(what, _code(text), _code(_json(result))) for what, text, result in CONSTRUCTS],
    )
    yield "## Functions\n\nA `?` marks what may be left out.\n\n" + _table(
        ("Function", "Result", "Meaning", "Example"), [_row(name) for name in sorted(functions())]
    )


def _row(name: str) -> tuple[str, ...]:
    function = functions()[name]
    text, result = FUNCTIONS[name]
    returns = " or ".join(function.returns.split("|")) or "any"
    return _code(function.signature), returns, function.summary, f"{_code(text)} is {_code(_json(result))}"


def _bounds() -> str:
    rows = [
        ("an expression's text", f"{MAX_TEXT:,} characters"),
        ("steps of one evaluation: one for each part applied to an element, value compared or copied, "
         "16 characters of a text", f"{MAX_STEPS:,}"),
        ("values of a result", f"{MAX_ITEMS:,}"),
        ("characters of a text that is made", f"{MAX_TEXT_RESULT:,}"),
        ("copies of its input that a result may hold", f"{MAX_GROWTH:,}"),
    ]  # fmt: skip
    opening = (
        "Counted, never timed, so an expression fails on every machine or on none. Beyond a bound the expression is "
        "refused when it is stored, or the step fails with `input_invalid`."
    )
    return f"{opening}\n\n{_table(('What', 'At most'), rows)}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _table(heads: tuple[str, ...], rows: list[Any]) -> str:
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
