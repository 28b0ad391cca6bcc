"""A worker process whose catalog changes under it, and whose author loses a scope."""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID

from engine import db
from engine.db import Connection, Row
from engine.pipeline import parse_definition
from engine.store import agents, tasks
from tests.factories import document, queue, step, until
from tests.polling import poll_until
from tests.processes import Crew
from workers import permits

LOCK = 4711
WAIT = {"sql": f"SELECT 1 AS n FROM (SELECT pg_advisory_lock_shared({LOCK})) AS held"}


def write(folder: Path, version: int) -> None:
    """A catalog of one tool, which answers which version of it was called."""
    schema = {"type": "object", "properties": {"v": {"default": version}}}
    entry = {"address": "my.tool", "transport": "builtin", "endpoint": "core.echo", "scopes": ["my.tool"]}
    text = json.dumps(entry | {"input_schema": schema, "output_schema": {}})
    (folder / "new").write_text(text, encoding="utf-8")
    (folder / "new").replace(folder / "tools.json")


async def authored(conn: Connection) -> tuple[Row, Row]:
    """A task that waits for the test and then calls the tool, and its author."""
    steps = [step("wait", "sql.query", with_=WAIT, timeout="10m"), step("call", "my.tool")]
    author = await agents.create(conn, "author", ["tool:sql.query", "my.tool"])
    definition = parse_definition(document(steps=steps, output="${steps.call.v}"))
    async with conn.transaction():
        return await tasks.create(conn, definition, "job", await db.clock(conn), author=author["id"]), author


async def ended(conn: Connection, run_id: UUID) -> Any:
    """The run's output, or the code of its error."""
    (row,) = await until(conn, "SELECT output, error FROM duework.task_run WHERE run_id = %s", run_id)
    return row["error"]["code"] if row["error"] else row["output"]


async def test_a_running_attempt_keeps_its_catalog(conn: Connection, crew: Crew, tmp_path: Path) -> None:
    """What begins after the change has the new one, what began before has the old one; a bad one is not taken over."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    write(folder, 1)
    task, author = await authored(conn)
    await conn.execute(b"SELECT pg_advisory_lock(%s)", [LOCK])
    worker = await crew.worker(catalog=folder)
    running = await queue(conn, task)
    await until(
        conn, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted", LOCK
    )
    write(folder, 2)
    await worker.logged("catalog.reloaded")
    await conn.execute(b"SELECT pg_advisory_unlock(%s)", [LOCK])
    assert await ended(conn, running) == 1
    assert await ended(conn, await queue(conn, task)) == 2
    (folder / "bad.json").write_text("{", encoding="utf-8")
    refusal = await worker.logged("catalog.reload_refused")
    assert "bad.json" in refusal["error"]
    assert await ended(conn, await queue(conn, task)) == 2
    await agents.change(conn, author["id"], scopes=["tool:sql.query"])
    over = monotonic() + permits.TTL
    await poll_until(lambda: monotonic() > over)  # for so long an answer counts
    assert await ended(conn, await queue(conn, task)) == "forbidden"


async def test_a_bad_catalog_starts_no_worker(crew: Crew, tmp_path: Path) -> None:
    """It says what is wrong and where, and leases nothing."""
    (tmp_path / "tools.json").write_text('[{"address": "x", "transprot": "http"}]', encoding="utf-8")
    worker = crew.start("workers.main", catalog=tmp_path)
    assert await worker.ended() != 0
    assert "unknown key 'transprot'" in worker.text
    assert not worker.events("worker.started")
