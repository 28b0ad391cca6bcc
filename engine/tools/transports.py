"""What each transport asks of a catalog entry beyond its schema, looked at while the catalog is loaded.

A `faults` function takes an entry and yields a Problem for each reason why it could be listed and never called,
its pointer counted from the entry. It reads what the entry says; it opens no connection and starts no process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from engine.errors import Problem
from engine.tools.calls import Answer, Arguments, Call
from engine.tools.children import command
from engine.tools.entry import ToolEntry
from engine.tools.http import client as http
from engine.tools.mcp import server as mcp_server


class Transport(Protocol):
    """The live side of a transport: one per process, in the toolbox."""

    async def call(self, entry: ToolEntry, arguments: Arguments, call: Call, /) -> Answer:
        """The tool's answer, unchecked. Raises ToolError classes, Parked, or TimeoutError."""

    async def close(self) -> None:
        """Let go of connections and children; nothing is called afterwards."""


Faults = Callable[[ToolEntry], Iterable[Problem]]

FAULTS: Mapping[str, Faults] = {
    "command": command.faults,
    "http": http.faults,
    "mcp": mcp_server.faults,
}
"""By transport; those without a line have nothing to look at."""
