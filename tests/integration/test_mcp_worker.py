"""A pipeline that calls tools of an MCP server: from the import to the output in SQL, by a real worker."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from engine.db import Connection
from ops.cli.main import run as duework
from tests.factories import make_task, queue, step, until
from tests.mcp_server import http_server
from tests.processes import Crew
from tests.source import ROOT

ENDED = "SELECT * FROM duework.runs WHERE run_id = %s AND finished_at IS NOT NULL"


async def test_a_pipeline_calls_what_was_imported(
    conn: Connection,
    crew: Crew,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One server over stdio and one over HTTP; structured answers, a secret header, a refusal as the run's error."""
    with http_server(tmp_path) as served:
        near_line = importing(tmp_path, "near", "--cwd", str(ROOT), "--", *program(tmp_path))
        assert await asyncio.to_thread(duework, near_line) == 0
        header = ["--header", "authorization=Bearer ${secrets.KEY}", "--allow-host", "127.0.0.1"]
        monkeypatch.setenv("DUEWORK_SECRET_KEY", "the-key-itself")
        assert await asyncio.to_thread(duework, importing(tmp_path, "far", "--url", served.url, *header)) == 0
        await says_what_changed(tmp_path / "catalog", capsys)
        crew.secrets["KEY"] = "the-key-itself"
        await crew.worker(catalog=tmp_path / "catalog", lease_seconds=timedelta(seconds=60))
        steps = [
            step("near", "near.echo", with_={"value": "${params.word}"}),
            step("far", "far.echo", with_={"value": "${steps.near.value} there"}),
            step("refused", "far.fail", with_={"why": "because"}),
        ]
        task = await make_task(conn, steps=steps)
        run_id = await queue(conn, task, params={"word": "hello"})
        (run,) = await until(conn, ENDED, run_id)
    outputs = (
        "SELECT step, output FROM duework.steps WHERE run_id = %s AND status = 'succeeded' ORDER BY position"
    )
    near, far = [row["output"] for row in await until(conn, outputs, run_id)]
    assert (near["value"], far["value"]) == ("hello", "hello there")
    assert far["meta"]["duework/idempotency-key"] == f"{run_id}:far"
    assert far["meta"]["duework/fence"] > 0
    assert (run["status"], run["error"]["code"], run["error"]["step"]) == ("failed", "rejected", "refused")
    assert "because" in run["error"]["message"]
    assert served.headers[-1]["authorization"] == "Bearer the-key-itself"
    assert "the-key-itself" not in crew.text()


async def says_what_changed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`duework tool lint` asks the servers: silent on what is as imported, a warning on what is not."""
    file = folder / "far.yaml"
    assert await asyncio.to_thread(duework, ["tool", "lint", str(file)]) == 0
    assert "changed_tool" not in capsys.readouterr().out
    text = file.read_text(encoding="utf-8")
    older = folder.parent / "older.yaml"
    older.write_text(text.replace("listed: sha256:", "listed: sha256:0", 1), encoding="utf-8")
    assert await asyncio.to_thread(duework, ["tool", "lint", str(older)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "changed_tool" in line]
    assert len(lines) == 1
    assert "far.echo" in lines[0]


def program(notes: Path) -> list[str]:
    """The command of tests/mcp_server.py."""
    return [sys.executable, "-m", "tests.mcp_server", str(notes)]


def importing(folder: Path, name: str, *given: str) -> list[str]:
    """A command line that imports a server's tools into the catalog of this test."""
    (folder / "catalog").mkdir(exist_ok=True)
    return ["tool", "import-mcp", name, "--file", str(folder / "catalog" / f"{name}.yaml"), *given]
