"""duework for agents: over stdio as a program of theirs, and one duework as a tool of another."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from engine.db import Connection
from ops.cli.main import run as command
from tests.factories import make_task, queue, step, until
from tests.integration.api.clients import pipeline
from tests.integration.cli.conftest import System
from tests.processes import Crew

ENDED = "SELECT status, error FROM duework.runs WHERE run_id = %s AND finished_at IS NOT NULL"


async def test_an_agent_starts_it_as_a_program(system: System) -> None:
    """Define and run over standard input and output, and wait for the end; a dead API is an error that says so."""
    words = ["-P", "-m", "ops.cli", "mcp", "serve", "--server", system.url]
    program = StdioServerParameters(command=sys.executable, args=words, env={"DUEWORK_TOKEN": system.token})
    async with Client(program) as mcp:
        made = await mcp.call_tool("create_task", {"definition": pipeline("over-stdio")})
        assert not made.is_error, made
        ran = await mcp.call_tool("run_task", {"task": "over-stdio", "wait_seconds": 60})
        assert ran.structured_content is not None, ran
        assert ran.structured_content["status"] == "succeeded"
    away = StdioServerParameters(
        command=sys.executable, args=[*words[:-1], "http://127.0.0.1:9"], env={"DUEWORK_TOKEN": "dw_x"}
    )
    async with Client(away) as mcp:
        refused = await mcp.call_tool("list_tasks", {})
    assert refused.is_error
    assert "duework up" in str(refused.content)


async def test_a_pipeline_runs_a_task_of_another_duework(
    system: System,
    conn: Connection,
    crew: Crew,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Imported like any MCP server's tools; the step's answer is the other's run, and its failure the step's."""
    monkeypatch.setenv("DUEWORK_SECRET_OTHER", system.token)
    crew.secrets["OTHER"] = system.token
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    words = ["tool", "import-mcp", "other", "--url", f"{system.url}/mcp", "--allow-host", "127.0.0.1"]
    words += ["--header", "authorization=Bearer ${secrets.OTHER}", "--file", str(catalog / "other.yaml")]
    assert await asyncio.to_thread(command, words) == 0
    await crew.worker(catalog=catalog, lease_seconds=timedelta(seconds=60))
    steps = [
        step("define", "other.create_task", with_={"definition": pipeline("far-away")}),
        step("run", "other.run_task", with_={"task": "far-away", "wait_seconds": 60}),
        step("tell", with_={"status": "${steps.run.status}"}),
        step("fail", "other.run_task", with_={"task": "nowhere"}),
    ]
    run_id = await queue(conn, await make_task(conn, steps=steps))
    (ended,) = await until(conn, ENDED, run_id)
    assert (ended["status"], ended["error"]["step"]) == ("failed", "fail"), ended
    assert "there is no task" in ended["error"]["message"]
    told = "SELECT output FROM duework.steps WHERE run_id = %s AND step = 'tell'"
    assert [row["output"] for row in await until(conn, told, run_id)] == [{"status": "succeeded"}]
    assert system.token not in crew.text()
