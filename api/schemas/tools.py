"""The JSON Schemas of tools and of trying one; the package joins them to the others."""

from __future__ import annotations

from api.schemas.words import TEXT, Schema

_TEXTS: Schema = {"type": "array", "items": TEXT}
_OBJECT: Schema = {"type": ["object", "null"]}


def bodies() -> dict[str, Schema]:
    """What requests hold, by name."""
    given = {
        "input": {"type": "object", "default": {}, "description": "The tool's input, as it is: no templates."}
    }
    return {"ToolTest": {"type": "object", "properties": given, "additionalProperties": False}}


def answers() -> dict[str, Schema]:
    """What answers hold, by name."""
    tool: Schema = {
        "address": TEXT,
        "version": {"type": ["string", "null"]},
        "transport": TEXT,
        "title": TEXT,
        "description": TEXT,
        "input_schema": {},
        "output_schema": {},
        "timeout_seconds": {"type": "number"},
        "scopes": _TEXTS,
        "idempotent": {"type": "boolean"},
        "aliases": _TEXTS,
        "secrets": _TEXTS,
        "retry": _OBJECT,
        "rate": _OBJECT,
        "concurrency": {"type": ["integer", "null"]},
        "breaker": _OBJECT,
        "breaker_state": {
            "enum": ["closed", "open", "half_open", None],
            "description": "Null without a breaker.",
        },
        "source": {**TEXT, "description": "The file of the catalog."},
    }
    trial: Schema = {
        "tool": TEXT,
        "status": {"enum": ["succeeded", "failed", "blocked", "timed_out", "parked"]},
        "output": {},
        "error": _OBJECT,
        "verdict": _OBJECT,
        "duration_ms": {"type": "number"},
    }
    items = {"items": {"type": "array", "items": {"$ref": "#/components/schemas/Tool"}}}
    return {
        "Tool": {"type": "object", "properties": tool, "required": list(tool)},
        "ToolTrial": {"type": "object", "properties": trial, "required": list(trial)},
        "Tools": {"type": "object", "properties": items, "required": ["items"]},
    }
