"""The tokens of the dialect: JMESPath's own, fractions, and offsets of time (`+24h`, `-1d12h`).

The library's lexer knows neither of the last two, and its regular-expression form here also gives every
token its true end, so that an error names the right column. Tokens are the dicts that the library's parser
reads: type, value, start, end.
"""

from __future__ import annotations

import json
import re
from typing import Any

from engine.durations import parse_duration
from engine.errors import ValidationFailed

Token = dict[str, Any]

_TOKEN = re.compile(
    r"""(?P<space>[ \t\n\r]+)
      | (?P<offset>[+-][ \t]*(?:\d{1,12}[wdhms])+(?![A-Za-z0-9_]))
      | (?P<float>-?\d+(?:\.\d+(?:[eE][+-]?\d+)?|[eE][+-]?\d+)(?![A-Za-z0-9_]))
      | (?P<number>-?\d+)
      | (?P<unquoted_identifier>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<quoted_identifier>"(?:[^"\\]|\\.)*")
      | (?P<raw>'(?:[^'\\]|\\.)*')
      | (?P<literal>`(?:[^`\\]|\\.)*`)
      | (?P<symbol>\[\?|\[\]|==|!=|<=|>=|&&|\|\||[.*\[\],:@(){}<>!&|])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_SYMBOLS = {
    "[?": "filter", "[]": "flatten", "==": "eq", "!=": "ne", "<=": "lte", ">=": "gte", "&&": "and",
    "||": "or", ".": "dot", "*": "star", "[": "lbracket", "]": "rbracket", ",": "comma", ":": "colon",
    "@": "current", "(": "lparen", ")": "rparen", "{": "lbrace", "}": "rbrace", "<": "lt", ">": "gt",
    "!": "not", "&": "expref", "|": "pipe",
}  # fmt: skip
_HINTS = {
    "+": "the only arithmetic is a time and an offset: now+24h, now-30m (units s m h d w)",
    "-": "the only arithmetic is a time and an offset (now-30m); a name that holds '-' is written in double "
    'quotes: steps."my-step"',
    "=": "compare with ==",
    "$": "inside ${ } the expression stands alone, without a $",
    "'": "the closing ' is missing",
    '"': 'the closing " is missing',
    "`": "the closing ` is missing",
}
_MAX_DIGITS = 300  # a JSON number beyond it is neither a double nor of use


class SyntaxFault(Exception):
    """The text is not an expression; `position` counts characters from 0."""

    def __init__(self, detail: str, position: int) -> None:
        super().__init__(detail)
        self.detail, self.position = detail, position


def tokenize(text: str) -> list[Token]:
    """The tokens of `text`, closed by an `eof` token. Raises SyntaxFault."""
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise SyntaxFault(_unknown(text[position]), position)
        kind, found = str(match.lastgroup), match.group()
        position = match.end()
        if kind != "space":
            token_type, value = _read(kind, found, match.start())
            tokens.append({"type": token_type, "value": value, "start": match.start(), "end": position})
    tokens.append({"type": "eof", "value": "", "start": len(text), "end": len(text)})
    return tokens


def _unknown(character: str) -> str:
    hint = _HINTS.get(character)
    return f"{character!r} does not belong here" + (f": {hint}" if hint else "")


def _read(kind: str, found: str, position: int) -> tuple[str, Any]:
    """The parser's name for the token, and its value."""
    if kind == "symbol":
        return _SYMBOLS[found], found
    if kind == "unquoted_identifier":
        return kind, found
    if kind == "offset":
        return kind, _offset(found, position)
    if kind in ("number", "float"):
        return kind, _number(found, position)
    if kind == "raw":
        return "literal", found[1:-1].replace("\\'", "'")
    return kind, _json_text(kind, found, position)


def _offset(found: str, position: int) -> Any:
    """A signed timedelta."""
    try:
        delta = parse_duration(found[1:].strip())
    except ValidationFailed as error:
        raise SyntaxFault(error.message, position) from error
    return -delta if found[0] == "-" else delta


def _number(found: str, position: int) -> int | float:
    if len(found) > _MAX_DIGITS:
        raise SyntaxFault(f"a number has at most {_MAX_DIGITS} digits", position)
    value = float(found) if set(found) & set(".eE") else int(found)
    if value in (float("inf"), float("-inf")):
        raise SyntaxFault("the number is too large", position)
    return value


def _json_text(kind: str, found: str, position: int) -> Any:
    """A quoted name, or a `literal`: JSON, or a bare word as JMESPath's older form has it."""
    body = found if kind == "quoted_identifier" else found[1:-1].replace("\\`", "`")
    try:
        value = _strict_json(body)
    except RecursionError:
        raise SyntaxFault("the literal is nested too deeply", position) from None
    except ValueError:
        value = None if kind == "quoted_identifier" else _bare_word(body.lstrip())
        if value is None:
            raise SyntaxFault(f"{found[0]}…{found[0]} does not hold valid JSON", position) from None
    return value


def _bare_word(body: str) -> str | None:
    try:
        word = _strict_json(f'"{body}"')
    except ValueError:
        return None
    return word if isinstance(word, str) else None


def _strict_json(body: str) -> Any:
    """JSON without NaN, Infinity and lone surrogates, none of which a JSON document may hold."""
    value = json.loads(body, parse_constant=_no_constant, parse_float=_finite)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError("the number is too large")
    return value
