"""The reference page of the tools that duework brings, from their catalog entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.durations import format_duration
from engine.reflex import written
from engine.settings import Settings
from engine.tools.entry import ToolEntry
from engine.tools.registry import load_catalog

OPENING = (
    "What a step's `uses` can name without a catalog of your own. A tool that is not idempotent is checkpointed before "
    "the next step begins, so that a crash does not call it twice. `duework tool get ADDRESS` shows the whole schemas."
)


def sections() -> Iterator[str]:
    """One section for each entry of the package's own catalog, by address."""
    for entry in load_catalog(Settings()).listed():
        yield "\n\n".join(_section(entry))


def _section(entry: ToolEntry) -> Iterator[str]:
    yield f"## {entry.address}"
    yield entry.description.rstrip(".") + "."
    yield ". ".join(_facts(entry)) + "."
    yield from _members("Input", entry.input_schema)
    yield from _members("Output", entry.output_schema)


def _facts(entry: ToolEntry) -> Iterator[str]:
    scopes = ", ".join(f"`{scope}`" for scope in entry.scopes)
    yield f"Scope: {scopes}" if scopes else "Needs no scope"
    yield f"{'Idempotent' if entry.idempotent else 'Not idempotent'}, timeout {format_duration(entry.timeout)}"
    if entry.aliases:
        yield f"Also called {', '.join(f'`{alias}`' for alias in entry.aliases)}"
    allowed = written(entry.reflex).get("allow")
    if isinstance(allowed, Mapping):
        places = ", ".join(f"`{place}` ({', '.join(kinds)})" for place, kinds in allowed.items())
        yield f"The gate lets pass: {places}"


def _members(title: str, schema: Mapping[str, Any]) -> Iterator[str]:
    properties = schema.get("properties")
    if not properties:
        yield f"{title}: any object."
        return
    required = schema.get("required", ())
    rows = [
        f"| `{name}`{' *' if name in required else ''} | {_kind(one)} | {_meaning(one)} |"
        for name, one in properties.items()
    ]
    yield "\n".join((f"| {title} | Type | Meaning |", "| --- | --- | --- |", *rows))


def _kind(schema: Any) -> str:
    """A schema in a word or two: `string`, `array of object`, `GET or HEAD`."""
    if not isinstance(schema, Mapping) or not schema:
        return "any"
    for alternatives in ("anyOf", "oneOf"):
        if alternatives in schema:
            return _either([_kind(one) for one in schema[alternatives]])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return _either([f"`{one}`" for one in schema["enum"]])
    kinds = schema.get("type", "any")
    if kinds == "array" and isinstance(schema.get("items"), Mapping):
        return f"array of {_kind(schema['items'])}"
    return _either(kinds) if isinstance(kinds, list) else str(kinds)


def _either(kinds: Sequence[str]) -> str:
    return " or ".join(dict.fromkeys(kinds))


def _meaning(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return ""
    said = [schema["description"].rstrip(".")] if "description" in schema else []
    said += [f"default `{schema['default']}`"] if "default" in schema else []
    return "; ".join(said).replace("|", "\\|").replace("\n", " ")
