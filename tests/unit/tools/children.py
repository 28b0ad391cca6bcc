"""What the tests of child processes share: entries, calls, a toolbox, and whether a process still lives."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from engine.secrets import Secrets
from engine.settings import Settings
from engine.tools.calls import Call
from engine.tools.entry import ToolEntry
from engine.tools.registry import parse_entry
from engine.tools.toolbox import Toolbox, open_toolbox
from tests.polling import poll_until

RUN = UUID("01936b2e-0000-7000-8000-000000000000")
SECRETS = {"KEY": "s3cret-of-the-test"}
CALL = Call(RUN, "work", f"{RUN}:work", 7, 1, timedelta(seconds=60), secrets=Secrets(SECRETS.get))


def function(name: str, **members: Any) -> ToolEntry:
    """The catalog entry of a function of tests/unit/tools/functions.py."""
    endpoint = name if ":" in name else f"tests.unit.tools.functions:{name}"
    given = {"address": "my.function", "transport": "python", "endpoint": endpoint}
    return parse_entry(given | {"input_schema": {}, "output_schema": {}} | members, "test.yaml")


def command(*argv: Any, secrets: Iterable[str] = (), **options: Any) -> ToolEntry:
    """The catalog entry of a command."""
    given = {"address": "my.command", "transport": "command", "endpoint": list(argv), "command": options}
    rest = {"scopes": ["tool:my.command"], "secrets": list(secrets), "input_schema": {}, "output_schema": {}}
    return parse_entry(given | rest, "test.yaml")


@asynccontextmanager
async def tools(**given: Any) -> AsyncIterator[Toolbox]:
    """A toolbox that runs commands and ends with the block."""
    async with open_toolbox(Settings(**{"command_tools": True} | given), None) as toolbox:
        yield toolbox


def lives(pid: int) -> bool:
    """Whether there is such a process, and it is no mere entry that nobody has read the end of."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def gone(pids: Iterable[int]) -> None:
    """Wait until none of them lives."""
    await poll_until(lambda: not any(map(lives, pids)), 60)


async def written(place: Path) -> Any:
    """The JSON of a file, once it is there."""
    await poll_until(place.exists)
    return json.loads(place.read_text())


def descriptors() -> int:
    """How many files, pipes and sockets this process holds open."""
    return len(os.listdir("/proc/self/fd"))
