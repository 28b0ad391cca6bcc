"""The expression dialect: JMESPath with bare numbers, offsets of time and a few functions (DESIGN section 6).

Compiled once per definition, evaluated often, and never a way to reach Python, a clock, a file or chance:
`now` is whatever the context says. What an evaluation may cost and make is bounded, in steps and sizes. A
missing key is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.errors import Problem, ValidationFailed
from engine.expressions.analysis import Path, analyse, growth
from engine.expressions.evaluation import Evaluate, build
from engine.expressions.functions import Function, table
from engine.expressions.kinds import kinds
from engine.expressions.lexer import SyntaxFault
from engine.expressions.parser import parse
from engine.expressions.values import Meter, Refused, check_size, is_true

__all__ = ["Expression", "Function", "Path", "compile_expression", "functions", "is_true"]


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression; two of the same text are equal.

    `paths` are the places it reads from the root of the context, `kinds` JMESPath's names of the types that its
    result can have, `traps` what rarely means what it says, each with its column from 1.
    """

    text: str
    paths: frozenset[Path] = field(compare=False)
    kinds: frozenset[str] = field(compare=False)
    traps: tuple[tuple[str, int], ...] = field(compare=False)
    _run: Evaluate = field(compare=False, repr=False)
    _makes: bool = field(compare=False, repr=False)

    @property
    def references(self) -> frozenset[str]:
        """The roots it uses with one key below: {"params.city", "steps.weather", "now"}; "@" is all."""
        return frozenset(".".join(path[:2]) if path else "@" for path in self.paths)

    def evaluate(self, context: Mapping[str, Any]) -> Any:
        """The value in `context`. Parts of the context are handed out as they are: treat them as read-only.

        Raises ValidationFailed (problem code `expression_failed`) where a function has no answer.
        """
        try:
            result = self._run(context, Meter())
            if self._makes:
                check_size(result)
        except Refused as refused:
            raise _failed(self.text, str(refused)) from refused
        except RecursionError as error:
            raise _failed(self.text, "the value is nested too deeply") from error
        return result

    def holds(self, context: Mapping[str, Any]) -> bool:
        """Whether the value in `context` is true as JMESPath sees it: not null, false, "", [] or {}."""
        return is_true(self.evaluate(context))


def compile_expression(text: str) -> Expression:
    """The expression that `text` writes.

    Raises ValidationFailed with one problem of code `expression_syntax`, whose column counts from 1 within
    `text`.
    """
    try:
        node = parse(text)
        run = build(node)  # first: it bounds the depth that the others walk
        copies, findings = growth(node), analyse(node)
    except SyntaxFault as fault:
        raise _refused(text, fault) from fault
    return Expression(text, frozenset(findings.paths), kinds(node), tuple(findings.traps), run, copies > 1)


def functions() -> Mapping[str, Function]:
    """Every function of the dialect by name, for the documentation."""
    return table()


def _refused(text: str, fault: SyntaxFault) -> ValidationFailed:
    column = min(fault.position, len(text)) + 1
    detail = f"expression {_shown(text)}, column {column}: {fault.detail}"
    return ValidationFailed(detail, errors=(Problem("expression_syntax", detail, line=1, column=column),))


def _failed(text: str, reason: str) -> ValidationFailed:
    detail = f"expression {_shown(text)}: {reason}"
    return ValidationFailed(detail, errors=(Problem("expression_failed", detail),))


def _shown(text: str) -> str:
    return f"'{text}'" if len(text) <= 80 else f"'{text[:77]}...'"
