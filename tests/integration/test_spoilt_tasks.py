"""A task that SQL spoilt is set aside, visibly, and keeps nobody else from running."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import psycopg
import pytest

from engine import db
from engine.db import Connection
from engine.metrics import Metrics
from engine.settings import Settings
from engine.store import tasks, workers
from engine.store.workers import Process
from ops.cli.main import run
from scheduler.main import ticks
from tests.factories import make_task, one, rows

SPOILT = {
    "read": "UPDATE duework.task SET schedule_options = jsonb_build_object('jitter', repeat('9', 5000)::numeric)"
    " WHERE name = 'bad'",
    "planned": """UPDATE duework.task SET schedule_options = '{"catchup": "all"}' WHERE name = 'bad'""",
    "written": "CREATE FUNCTION duework.refuse_bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF (SELECT name = 'bad' FROM duework.task WHERE id = new.task_id) THEN RAISE EXCEPTION 'no room'; END IF;"
    " RETURN new; END $$; CREATE TRIGGER bad BEFORE INSERT ON duework.due_work"
    " FOR EACH ROW EXECUTE FUNCTION duework.refuse_bad()",
}
"""Where it comes to light, and what spoils it."""
REFUSED = (
    "concurrency_key = 'key:x', concurrency = NULL",
    """concurrency_key = 'key:x', concurrency = '{"limit": 0, "on_conflict": "queue"}'""",
    """concurrency_key = 'key:x', concurrency = '{"limit": 1}'""",
    "dedupe_scheduled = repeat('x', 501)",
    "dedupe_window = interval '36526 days'",
    "schedule_start = 'infinity'",
    "schedule_start = '0044-03-15 BC'",
    "next_run = '-infinity'",
    "updated_at = 'infinity'",
    "schedule_options = '[]'",
)


async def tick(database_url: str) -> None:
    """What a scheduler does once a second."""
    settings = Settings(database_url=database_url, environment="development")
    async with db.pool(settings, "scheduler", size=3) as pool:
        await ticks(settings, pool, Metrics(), Process.here("scheduler"))


async def make_due(conn: Connection, *names: str) -> None:
    """Tasks of every minute that are due now."""
    for name in names:
        await make_task(conn, name, schedule={"every": "1m"})
    await conn.execute("UPDATE duework.task SET next_run = now()")


async def examined(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What doctor says of tasks."""
    capsys.readouterr()
    await asyncio.to_thread(run, ["doctor", "--json"])
    return [each["text"] for each in json.loads(capsys.readouterr().out) if each["what"] == "tasks"]


@pytest.mark.parametrize("where", SPOILT)
async def test_the_others_run(
    conn: Connection,
    database_url: str,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Six of seven due tasks run, the seventh says why not, and runs again once it is mended."""
    monkeypatch.setenv("DUEWORK_DATABASE_URL", database_url)
    await make_due(conn, "a", "b", "c", "bad", "d", "e", "f")
    await conn.execute(SPOILT[where].encode())
    await tick(database_url)
    ran = "SELECT DISTINCT t.name FROM duework.due_work w JOIN duework.task t ON t.id = w.task_id ORDER BY 1"
    assert [row["name"] for row in await rows(conn, ran)] == ["a", "b", "c", "d", "e", "f"]
    aside = "SELECT name FROM duework.task WHERE schedule_error <> '' AND next_run IS NULL"
    assert [row["name"] for row in await rows(conn, aside)] == ["bad"]
    assert (await workers.queue_state(conn))["set_aside"] == 1
    assert (await examined(capsys))[0].startswith("1 cannot be planned")
    await conn.execute("DROP TRIGGER IF EXISTS bad ON duework.due_work")
    await conn.execute("UPDATE duework.task SET schedule_options = '{}' WHERE name = 'bad'")
    async with conn.transaction():
        await tasks.pause(conn, "bad", await db.clock(conn))
    async with conn.transaction():
        mended = await tasks.resume(conn, "bad", await db.clock(conn))
    assert (mended["schedule_error"], mended["next_run"] is None) == (None, False)
    assert await examined(capsys) == []


async def test_what_is_wrong_with_all_is_no_task_s_fault(conn: Connection, database_url: str) -> None:
    """Where nothing of a batch can be written nobody is set aside, and the error is told."""
    await make_due(conn, "a", "b", "c")
    await conn.execute("ALTER TABLE duework.due_work ADD CHECK (task_version > 1)")
    with pytest.raises(psycopg.errors.CheckViolation):
        await tick(database_url)
    assert await one(conn, "SELECT count(*) FROM duework.task WHERE next_run IS NOT NULL") == 3


async def test_whoever_mends_a_task_meanwhile_is_not_overruled(conn: Connection) -> None:
    """A row that was changed after it failed is left as it is."""
    await make_due(conn, "a")
    values = {"now": None, "horizon": timedelta(0), "limit": 9}
    (seen,) = await db.fetch(conn, "list_due_tasks", values)
    await conn.execute("UPDATE duework.task SET title = 'mended'")
    assert await db.fetch(conn, "set_task_aside", seen | {"error": "spoilt"}) == []


@pytest.mark.parametrize("change", REFUSED)
async def test_what_no_tick_could_plan_is_refused(conn: Connection, change: str) -> None:
    """The table takes no task that could never become work, or that no client can read."""
    await make_due(conn, "a")
    with pytest.raises(psycopg.errors.CheckViolation):
        await conn.execute(f"UPDATE duework.task SET {change}".encode())
