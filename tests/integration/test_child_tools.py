"""Functions and commands in real workers: what a cancellation, a lost lease and a bad catalog do to them."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.db import Connection
from engine.store import leases
from tests.factories import make_task, queue, step, until
from tests.processes import Crew
from tests.source import ROOT
from tests.unit.tools.children import gone, lives, written

ENDED = "SELECT * FROM duework.runs WHERE run_id = %s AND finished_at IS NOT NULL"
HANG = "import json, sys; from tests.unit.tools.functions import hang; hang(json.load(sys.stdin)['path'])"
SCHEMAS: dict[str, Any] = {"input_schema": {"properties": {"path": {}}}, "output_schema": {}}
TOOLS = [
    {"address": "my.function", "transport": "python", "endpoint": "tests.unit.tools.functions:hang"}
    | SCHEMAS,
    {
        "address": "my.command",
        "transport": "command",
        "endpoint": [sys.executable, "-c", HANG],
        "command": {"cwd": str(ROOT)},
        "scopes": ["tool:my.command"],
    }
    | SCHEMAS,
]


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A catalog of tools that hang, and leave to run them."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "tools.json").write_text(json.dumps({"tools": TOOLS}))
    return {"catalog": folder, "command_tools": True}


@pytest.mark.parametrize("tool", ["my.function", "my.command"])
async def test_a_canceled_run_takes_its_processes_along(
    conn: Connection, crew: Crew, tmp_path: Path, settings: dict[str, Any], tool: str
) -> None:
    """The step is cancelled, nothing that it started is left, and the worker goes on."""
    task = await make_task(conn, steps=[step("work", tool, with_={"path": str(tmp_path / "pids")})])
    worker = await crew.worker(**settings)
    run_id = await queue(conn, task)
    pids = await written(tmp_path / "pids")
    assert await leases.cancel(conn, run_id, "stop it") == "canceling"
    (run,) = await until(conn, ENDED, run_id)
    assert run["status"] == "canceled"
    assert not any(map(lives, pids))
    assert worker.process.poll() is None


async def test_a_lost_lease_takes_its_processes_along(
    conn: Connection, crew: Crew, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """A worker whose lease is another's stops what it does under it; the other's run goes on."""
    task = await make_task(conn, steps=[step("work", "my.function", with_={"path": str(tmp_path / "pids")})])
    worker = await crew.worker(**settings)
    await queue(conn, task)
    pids = await written(tmp_path / "pids")
    await conn.execute(
        "UPDATE duework.due_work SET locked_by = 'another', fence = fence + 1000, locked_until = now() + interval '1h'"
    )
    await worker.logged("lease.lost")
    await gone(pids)


async def test_a_killed_worker_takes_its_processes_along(
    conn: Connection, crew: Crew, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """kill -9: the step's processes are gone before the next attempt could begin."""
    task = await make_task(conn, steps=[step("work", "my.command", with_={"path": str(tmp_path / "pids")})])
    worker = await crew.worker(**settings)
    await queue(conn, task)
    pids = await written(tmp_path / "pids")
    await worker.kill()
    await gone(pids)


async def test_a_worker_does_not_start_with_tools_that_it_cannot_call(
    crew: Crew, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """It says which and why, all of them, and leases nothing."""
    wrong = [{**TOOLS[0], "endpoint": "no_such_module:hang"}, {**TOOLS[1], "endpoint": ["no-such-program"]}]
    (tmp_path / "catalog" / "tools.json").write_text(json.dumps({"tools": wrong}))
    worker = crew.start("workers.main", **settings)
    assert await worker.ended() not in (0, -signal.SIGKILL)
    assert "my.function: no_such_module:hang: ModuleNotFoundError" in worker.text
    assert "my.command: the program no-such-program is not there" in worker.text
    assert not worker.events("worker.started")
