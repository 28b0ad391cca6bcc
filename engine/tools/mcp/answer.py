"""What an MCP tool's result is to a pipeline.

`structuredContent` where there is any. Otherwise the entry's output_schema decides: a schema of an object that has no
`content`, or of a list, reads the text as JSON; a schema of a string takes the text; any other gets
{content: [block, …]} as the protocol has it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine import reflex
from engine.errors import OutputInvalid, ToolRejected

SHOWN = 1000
"""Characters of a refusal that an error holds."""
READ = 65_536
"""Characters of it that are looked at."""
CONTENT_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["content"],
    "properties": {"content": {"type": "array", "items": {"type": "object"}}},
}
"""The output_schema of a tool whose server says nothing of its output."""

Block = Mapping[str, Any]


def value_of(structured: Any, content: Sequence[Block], schema: Mapping[str, Any]) -> Any:
    """The tool's output. Raises OutputInvalid for text that is no JSON where it must be."""
    if structured is not None:
        return structured
    kind = schema.get("type")
    if kind == "string":
        return text_of(content)
    if kind == "array" or (kind == "object" and "content" not in schema.get("properties", {"content": {}})):
        return _json(text_of(content))
    return {"content": list(content)}


def failure_of(content: Sequence[Block], conceal: Callable[[Any], Any]) -> ToolRejected:
    """What a result that says it is an error means."""
    said = shortened(text_of(content), conceal)
    return ToolRejected(said or "the tool says that it failed, and not why")


def shortened(text: str, conceal: Callable[[Any], Any]) -> str:
    """A server's words as an error holds them; half of a secret or a datum would not be recognised any more."""
    return reflex.mask(str(conceal(text[:READ])))[:SHOWN]


def text_of(content: Sequence[Block]) -> str:
    """The text blocks, a line each."""
    return "\n".join(block["text"] for block in content if block.get("type") == "text")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OutputInvalid(
            "the tool has no structured answer, and its text is not JSON, which its output_schema asks for"
        ) from error
