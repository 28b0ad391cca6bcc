"""JMESPath's parser with the dialect's two additions and two strictnesses.

Added: bare numbers where a value is compared, chosen or passed (`x > 25`, `x || 0`, `length(x)`), and offsets
of time after any path. Stricter than the library, as the specification is: arguments and the members of a
hash are separated by commas. The library keeps its parser cache in a class attribute that subclasses would
share, so plain JMESPath would hand its trees to the dialect; nothing is cached here at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never

from jmespath import exceptions
from jmespath.parser import Parser

from engine.expressions.lexer import SyntaxFault, Token, tokenize

Node = dict[str, Any]
"""A node of the library's tree: type, children, and for most a value. The dialect adds the types `number`
(a bare number) and `offset` (children[0] moved by the timedelta in `value`); calls carry their `start`."""

MAX_TEXT = 8_192  # characters; a longer condition belongs in a tool
_MAX_NESTING = 60

_WORDS = {
    "and": "write && for 'and'", "or": "write || for 'or'", "not": "write ! for 'not'",
    "in": "write contains(list, value)", "is": "compare with ==",
}  # fmt: skip


def parse(text: str) -> Node:
    """The tree of `text`. Raises SyntaxFault with the position of what is wrong."""
    if len(text) > MAX_TEXT:
        raise SyntaxFault(f"an expression has at most {MAX_TEXT} characters, this one {len(text)}", MAX_TEXT)
    if not text.strip():
        raise SyntaxFault("the expression is empty", 0)
    tokens = tokenize(text)
    try:
        return _DialectParser().read(tokens)
    except exceptions.IncompleteExpressionError as error:
        raise SyntaxFault("the expression ends too early", len(text)) from error
    except exceptions.ParseError as error:
        raise SyntaxFault(_explained(error, tokens), error.lex_position) from error


def _explained(error: exceptions.ParseError, tokens: list[Token]) -> str:
    at = next((i for i, token in enumerate(tokens) if token["start"] == error.lex_position), 0)
    if tokens[at]["type"] == "eof":
        return "the expression ends too early"
    if at and tokens[at - 1]["type"] == "quoted_identifier" and tokens[at]["type"] == "lparen":
        return "a function's name has no quotes"
    near = [tokens[at]["value"], tokens[at - 1]["value"] if at else None]
    hint = next((_WORDS[word] for word in near if isinstance(word, str) and word in _WORDS), None)
    return f"{_shown(tokens[at])} does not belong here" + (f": {hint}" if hint else "")


def _shown(token: Token) -> str:
    kinds = {"literal": "this literal", "offset": "this offset of time", "quoted_identifier": "this name"}
    return kinds.get(token["type"], f"'{token['value']}'")


class _DialectParser(Parser):
    """One parse: the library dispatches to `_token_nud_<type>` and `_token_led_<type>` by name."""

    # An offset binds tighter than a comparison and ends a projection, so that it moves a whole path.
    BINDING_POWER = {**Parser.BINDING_POWER, "float": 0, "offset": 8}  # noqa: RUF012 (the library's own attribute)

    if TYPE_CHECKING:  # the library's own methods, which its stubs leave out

        def _advance(self) -> None: ...
        def _current_token(self) -> str: ...
        def _lookahead_token(self, number: int) -> Token: ...
        def _match(self, token_type: str) -> None: ...
        def _match_multiple_tokens(self, token_types: list[str]) -> None: ...

    def read(self, tokens: list[Token]) -> Node:
        self._tokens, self._index, self._nesting = tokens, 0, 0
        node = self._expression()
        if self._current_token() != "eof":
            self._fail(self._lookahead_token(0))
        return node

    def _expression(self, binding_power: int = 0) -> Node:
        self._nesting += 1
        if self._nesting > _MAX_NESTING:
            raise SyntaxFault("the expression is nested too deeply", self._lookahead_token(0)["start"])
        node: Node = super()._expression(binding_power)  # type: ignore[misc] # the stubs leave it out
        self._nesting -= 1
        return node

    def _token_nud_quoted_identifier(self, token: Token) -> Node:
        return {"type": "field", "value": token["value"], "children": []}

    def _token_nud_not(self, token: Token) -> Node:
        inner = self._expression(self.BINDING_POWER["not"])
        return {"type": "not_expression", "children": [inner], "start": token["start"]}

    def _token_nud_number(self, token: Token) -> Node:
        return {"type": "number", "value": token["value"], "children": [], "start": token["start"]}

    _token_nud_float = _token_nud_number

    def _token_led_offset(self, left: Node) -> Node:
        return {"type": "offset", "value": self._lookahead_token(-1)["value"], "children": [left]}

    def _token_led_lparen(self, left: Node) -> Node:
        name = self._lookahead_token(-2)
        if left["type"] != "field" or name["type"] != "unquoted_identifier":
            self._fail(self._lookahead_token(-1))
        arguments = [] if self._current_token() == "rparen" else self._arguments()
        self._match("rparen")
        call = {"type": "function_expression", "value": left["value"], "children": arguments}
        return call | {"start": name["start"]}

    def _arguments(self) -> list[Node]:
        arguments = [self._expression()]
        while self._current_token() == "comma":
            self._advance()
            arguments.append(self._expression())
        return arguments

    def _parse_multi_select_hash(self) -> Node:
        pairs = [self._pair()]
        while self._current_token() == "comma":
            self._advance()
            pairs.append(self._pair())
        self._match("rbrace")
        return {"type": "multi_select_dict", "children": pairs}

    def _pair(self) -> Node:
        key = self._lookahead_token(0)
        self._match_multiple_tokens(["quoted_identifier", "unquoted_identifier"])
        self._match("colon")
        return {"type": "key_val_pair", "value": key["value"], "children": [self._expression()]}

    def _fail(self, token: Token) -> Never:
        raise exceptions.ParseError(token["start"], str(token["value"]), token["type"])
