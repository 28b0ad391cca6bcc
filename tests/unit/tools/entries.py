"""Catalog entries for tests."""

from __future__ import annotations

from typing import Any

from engine.tools.entry import ToolEntry
from engine.tools.registry import parse_entry


def entry(url: str, **members: Any) -> ToolEntry:
    """A catalog entry of transport http."""
    given = {
        "address": "my.tool",
        "transport": "http",
        "endpoint": url,
        "input_schema": {},
        "output_schema": {},
    }
    return parse_entry(given | members, "test.json")
