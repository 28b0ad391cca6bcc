"""The ways out: everything that is stored, logged, notified and answered, as text to be searched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from psycopg import sql

from engine import db
from engine.db import Connection
from engine.store import notifier
from tests.factories import rows
from tests.integration.diode.canaries import Canary, texts_of
from tests.processes import Crew

PAYLOADS: Mapping[str, Collection[str]] = {
    "step_run": ("input", "output"),
    "task_run": ("params", "output", "event", "state"),
    "checkpoint": ("record",),
    "due_work": ("params", "event", "state"),
    "event": ("payload",),
    "held_run": ("records", "state"),
    "wait": ("prompt", "filter", "given", "resolution"),
}
"""Where what a policy lets through may lie, by table."""
_TABLES = (
    "SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'duework'::regnamespace"
)


async def stored(conn: Connection, *, without: Mapping[str, Collection[str]] | None = None) -> dict[str, str]:
    """Every text in every row, by table; without some columns of some."""
    left_out = without or {}
    found = {}
    for table in await rows(conn, _TABLES):
        name = table["name"]
        dumped = sql.SQL("SELECT to_jsonb(t) AS row FROM {} AS t").format(sql.Identifier("duework", name))
        # Partitions are called like their table with a suffix.
        hidden = {column for of, columns in left_out.items() if name.startswith(of) for column in columns}
        listed = [each["row"] for each in await (await conn.execute(dumped)).fetchall()]
        kept = [{key: value for key, value in row.items() if key not in hidden} for row in listed]
        found[name] = "\0".join(text for row in kept for text in texts_of(row))
    return found


def logged(crew: Crew) -> dict[str, str]:
    """What each process wrote, as it stands and as it reads."""
    found = {}
    for member in crew.members:
        lines = [
            json.loads(line) for line in member.text.splitlines() if line[:1] == "{" and line[-1:] == "}"
        ]
        found[member.name] = "\0".join([member.text, *texts_of(lines)])
    return found


def leaks(canaries: Iterable[Canary], places: Mapping[str, str]) -> list[str]:
    """Each canary with the first place where it is found."""
    return [
        f"{place}: {found}"
        for place, text in places.items()
        for canary in canaries
        if (found := canary.found_in(text))
    ]


@asynccontextmanager
async def ears(database_url: str) -> AsyncIterator[list[str]]:
    """What is notified on any channel while the block runs, and shortly after."""
    channels = [value for name, value in vars(notifier).items() if name.isupper() and isinstance(value, str)]
    heard: list[str] = []
    async with await db.connect(database_url, "ears") as conn:
        for channel in channels:
            await conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))

        async def listen() -> None:
            async for notice in conn.notifies():
                heard.append(f"{notice.channel} {notice.payload}")

        listening = asyncio.create_task(listen())
        try:
            yield heard
        finally:
            listening.cancel()
            await asyncio.wait([listening])


def as_text(answers: Iterable[Any]) -> str:
    """Answers as they stand and, where they are JSON, as they read."""
    texts = list(answers)
    for text in list(texts):
        body = text.partition("\n")[2]
        if body[:1] in ("{", "["):
            texts += texts_of(json.loads(body))
    return "\0".join(texts)
