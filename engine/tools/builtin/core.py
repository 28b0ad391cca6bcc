"""core.*: tools that touch nothing outside the run."""

from __future__ import annotations

from typing import Any

from engine.errors import InputInvalid, ToolRejected, ToolUnavailable, ValidationFailed
from engine.expressions import compile_expression
from engine.tools.calls import Arguments, Call


async def echo(arguments: Arguments, _call: Call) -> Any:
    """Answer with the input."""
    return arguments


async def transform(arguments: Arguments, _call: Call) -> Any:
    """Apply a JMESPath expression of the dialect to `input`; answers {result}."""
    try:
        return {"result": compile_expression(arguments["expression"]).evaluate(arguments["input"])}
    except ValidationFailed as error:
        raise InputInvalid(str(error), errors=error.errors) from error


async def fail(arguments: Arguments, _call: Call) -> Any:
    """Fail on purpose; `retryable` chooses the class."""
    kind = ToolUnavailable if arguments.get("retryable") else ToolRejected
    raise kind(arguments.get("message", "core.fail was asked to fail"))
