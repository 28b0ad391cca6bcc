"""`Prefer` (RFC 7240): answering at once, or when the run has finished."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from uuid import UUID

from starlette.requests import Request

from api.operations import Resources
from engine import db
from engine.db import Row
from engine.store import runs

LONGEST = 60
"""Seconds that one request may wait; a longer wish is cut, and Preference-Applied says so."""
_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,6})\"?", re.ASCII)
_FIRST_PAUSE, _LAST_PAUSE = 0.01, 0.25  # seconds between two looks


@dataclass(frozen=True, slots=True)
class Preference:
    """What the client would rather have. `wait` is in seconds, 0 for not at all."""

    wait: int = 0
    asynchronous: bool = False


def preference(request: Request) -> Preference:
    """The preferences that we know; the others are ignored, as the RFC asks."""
    text = ",".join(request.headers.getlist("prefer")).lower()
    found = _WAIT.search(text)
    return Preference(min(int(found[1]), LONGEST) if found else 0, "respond-async" in text)


async def finished(resources: Resources, run_id: UUID, seconds: float) -> Row | None:
    """The run once it has ended; None if that takes longer. Holds a connection only while it looks."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    pause = _FIRST_PAUSE
    while True:
        async with db.transaction(resources.pool) as conn:
            row = await runs.find(conn, run_id)
        if row["success"] is not None:
            return row
        left = deadline - loop.time()
        if left <= 0:
            return None
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, _LAST_PAUSE)
