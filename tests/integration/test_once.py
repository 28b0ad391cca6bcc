"""A `once` whose moment lies back when it is stored: told, and not run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from engine.db import Connection
from engine.pipeline import parse_definition
from engine.store import tasks
from scheduler.tick import tick
from tests.factories import document, make_task, rows

T0 = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LINES = "SELECT * FROM duework.occurrence WHERE task_id = %s ORDER BY scheduled_for"


async def test_a_once_that_had_passed_is_missed(conn: Connection) -> None:
    """Stored, or edited to, a moment that lies back: a line with the reason and no run; a moment ago is still meant."""
    task = await make_task(conn, schedule={"once": "2026-03-02T11:00:00"}, now=T0)
    assert task["next_run"] is None
    (line,) = await rows(conn, LINES, task["id"])
    assert (line["disposition"], line["scheduled_for"]) == ("missed", T0 - timedelta(hours=1))
    assert "when the task was stored" in line["reason"]
    edited = parse_definition(document(schedule={"once": "2026-03-02T10:00:00"}))
    async with conn.transaction():
        await tasks.change(conn, await tasks.get(conn, "job", lock=True), edited, T0 + SECOND)
    assert [row["scheduled_for"].hour for row in await rows(conn, LINES, task["id"])] == [10, 11]
    late = await make_task(conn, "late", schedule={"once": "2026-03-02T12:00:00"}, now=T0 + 5 * SECOND)
    assert (late["next_run"], await rows(conn, LINES, late["id"])) == (T0, [])
    async with conn.transaction():
        done = await tick(conn, 30 * SECOND, 30 * SECOND, 100, now=T0 + 5 * SECOND)
    assert done.occurrences == 1
