"""What seed 003 tells its readers to type, with real processes: a pipeline by hand, a server, a worker, a tool."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx2
import psycopg
import pytest

import migrations
from engine.db import Connection
from engine.settings import Settings, child_environment
from ops import embedded
from tests import postgres
from tests.factories import rows, until
from tests.integration.api.clients import SYSTEM, client, running, token_for
from tests.integration.api.test_server import server
from tests.polling import poll_until
from tests.processes import Crew
from tests.source import ROOT
from tests.unit.tools.test_registry import SEED
from tests.web import Web, web_server

BY_HAND = """
from engine.executor import run_pipeline
task = {
    'payload': {
        'pipeline': [
            {'id': 'test', 'uses': 'echo.message', 'with': {'text': 'Hello World'}}
        ]
    }
}
result = run_pipeline(task)
print(result)
"""
ASK = """
import asyncio
from api.main import app
from tests.integration.api.clients import SYSTEM, client

async def ask():
    async with app.router.lifespan_context(app), client(app, SYSTEM) as api:
        print((await api.get("/tasks")).status_code)

asyncio.run(ask())
"""
PIPELINE = {
    "pipeline": [
        {
            "id": "custom_step",
            "uses": "my-service.my-tool",
            "with": {"param1": "test-value", "param2": 200},
            "save_as": "custom_result",
        },
        {
            "id": "use_result",
            "uses": "echo.message",
            "with": {"text": "Result: ${steps.custom_result.result}"},
        },
    ]
}
ANSWER = {
    "result": "Processed test-value with factor 200",
    "metadata": {"param1": "test-value", "param2": 200},
}


def test_a_pipeline_by_hand(tmp_path: Path) -> None:
    """ "Pipeline Testing": the document's own lines for `python -c`, in a folder of the user's, without a database."""
    names = {key: value for key, value in os.environ.items() if not key.startswith("DUEWORK_")}
    done = subprocess.run(
        [sys.executable, "-c", BY_HAND], cwd=tmp_path, env=names, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    context = eval(done.stdout, {"__builtins__": {}})
    assert context["steps"] == {"test": {"text": "Hello World"}}
    assert context["params"] == {}
    assert datetime.fromisoformat(context["now"]).utcoffset() is not None


def test_the_app_is_there_to_import(database_url: str, tmp_path: Path) -> None:
    """`from api.main import app`: importing the module needs nothing; asking for `app` reads the environment."""
    program = "import api.main; print('imported'); print(type(api.main.app).__name__)"
    command = [sys.executable, "-c", program]
    names = {key: value for key, value in os.environ.items() if not key.startswith("DUEWORK_")}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=names | {"DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (["imported", "Starlette"], "")
    wrong = subprocess.run(
        command, cwd=tmp_path, env=names | {"DUEWORK_PROT": "1"}, capture_output=True, text=True, check=False
    )
    assert wrong.stdout.split() == ["imported"]
    assert "did you mean DUEWORK_PORT?" in wrong.stderr


@pytest.fixture
def tool() -> Iterator[Web]:
    """The seed's custom tool service."""
    with web_server() as web:
        web.answers["/tools/my-tool"] = ("application/json", json.dumps(ANSWER).encode())
        yield web


@pytest.fixture
async def api(crew: Crew, tool: Web, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """`uvicorn api.main:app` in development mode with the seed's catalog, and a worker beside it."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    entry = SEED | {"endpoint": f"{tool.url}/tools/my-tool"}
    (folder / "tools.json").write_text(json.dumps(entry), encoding="utf-8")
    crew.settings = replace(crew.settings, catalog=folder, http_allow="127.0.0.1", environment="development")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    log = tmp_path / "uvicorn.log"
    command = ("uvicorn", "api.main:app", "--host", "127.0.0.1", "--port", port)
    with server(crew.settings, log, *command) as process:
        await crew.worker()
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=40) as made:

            async def serves() -> bool:
                assert process.poll() is None, log.read_text(encoding="utf-8")
                try:
                    return (await made.get("/health")).status_code == 200
                except httpx2.TransportError:
                    return False

            await poll_until(serves, 30)
            yield made


async def test_create_and_execute_a_task(api: httpx2.AsyncClient, conn: Connection) -> None:
    """ "Integration Test Example", with the check that the document leaves open: the run succeeds."""
    task_data = {
        "title": "Test Task",
        "description": "Integration test task",
        "schedule_kind": "once",
        "schedule_expr": datetime.now(UTC).isoformat(),
        "payload": {"pipeline": [{"id": "echo", "uses": "echo.message", "with": {"text": "test"}}]},
        "created_by": "00000000-0000-0000-0000-000000000001",
    }
    response = await api.post("/tasks", json=task_data, headers={"Authorization": "Bearer system-agent"})
    assert response.status_code == 201, response.text
    task_id = response.json()["id"]
    response = await api.post(f"/tasks/{task_id}/run_now", headers={"Authorization": "Bearer system-agent"})
    assert response.status_code == 200, response.text
    ended = """SELECT status, attempt FROM duework.runs
      WHERE task_id = %s AND trigger = 'run_now' AND success IS NOT NULL"""
    assert await until(conn, ended, task_id) == [{"status": "succeeded", "attempt": 1}]
    steps = await rows(conn, "SELECT step, tool, output FROM duework.steps")
    assert {"step": "echo", "tool": "echo.message", "output": {"text": "test"}} in steps


async def test_a_pipeline_with_a_tool_of_ones_own(api: httpx2.AsyncClient, tool: Web) -> None:
    """ "Adding New Pipeline Tools": the catalog entry, the service, and the pipeline that uses its result."""
    seed = {"title": "Custom", "schedule_kind": "manual", "payload": PIPELINE}
    created = await api.post("/tasks", json=seed, headers=SYSTEM)
    assert created.status_code == 201, created.text
    path = f"/tasks/{created.json()['id']}/run_now"
    done = await api.post(path, headers=SYSTEM | {"Prefer": "wait=30"})
    assert done.json()["status"] == "succeeded", done.text
    run = (await api.get(done.headers["location"], headers=SYSTEM)).json()
    outputs = [step["output"] for step in run["steps"]]
    assert outputs == [ANSWER, {"text": "Result: Processed test-value with factor 200"}]
    (asked,) = tool.asked
    assert json.loads(asked.body) == {"param1": "test-value", "param2": 200}
    assert asked.headers["idempotency-key"] == [f"{run['run_id']}:custom_step"]


def test_the_example_token_works_in_development_only(database_url: str) -> None:
    """`from api.main import app` with one variable changed: in production and staging it is a wrong token."""
    settings = Settings(database_url=database_url)
    for environment, status in (("development", "200"), ("production", "401"), ("staging", "401")):
        names = child_environment(replace(settings, environment=environment))
        done = subprocess.run(
            [sys.executable, "-c", ASK], env=names, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.stdout.split() == [status], done.stderr


async def test_nor_on_an_open_host(database_url: str) -> None:
    """A server that others can reach does not know the word, not even from loopback."""
    settings = Settings(database_url=database_url, environment="development")
    async with running(settings) as app, client(app, SYSTEM) as api:
        assert (await api.get("/tasks")).status_code == 200
        await token_for(app, "task:read")
    async with running(replace(settings, host="0.0.0.0")) as app, client(app, SYSTEM) as api:
        assert (await api.get("/tasks")).status_code == 401


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A migrated database on a server that is not called duework-embedded."""
    state = Path(tempfile.gettempdir()) / f"duework-elsewhere-{secrets.token_hex(4)}"
    binaries = os.environ.get("DUEWORK_TEST_PG_BIN")
    given: dict[str, Any] = {"fast": True, "bin_dir": Path(binaries) if binaries else None}
    try:
        rename(embedded.start(state, **given), (state / "password").read_text(encoding="utf-8"))
        embedded.stop(state)
        url = embedded.start(state, **given).url
        migrations.upgrade(url)
        yield url
    finally:
        embedded.stop(state)
        shutil.rmtree(state, ignore_errors=True)


async def test_nor_on_another_database(elsewhere: str) -> None:
    """Whoever's server that is, it is nobody's toy, even in development mode on loopback."""
    settings = Settings(database_url=elsewhere, environment="development")
    async with running(settings) as app, client(app, SYSTEM) as api:
        assert (await api.get("/health")).status_code == 200
        assert (await api.get("/tasks")).status_code == 401


def rename(named: embedded.EmbeddedServer, password: str) -> None:
    """Call the server something else; it takes effect when it starts again."""
    where = urlsplit(named.url)
    admin = urlunsplit(where._replace(netloc=f"postgres:{password}@127.0.0.1:{named.port}", path="/postgres"))
    with closing(postgres.connect(admin)) as conn:
        conn.execute("ALTER SYSTEM SET cluster_name = 'somebody-elses'")


def test_index_usage(database_url: str) -> None:
    """ "Monitor index usage" asks for columns that no PostgreSQL has; by their real names the query works."""
    wanted = "SELECT schemaname, {}, idx_scan, idx_tup_read FROM pg_stat_user_indexes ORDER BY idx_scan DESC"
    with closing(postgres.connect(database_url)) as conn:
        conn.execute("SET search_path = duework")
        with pytest.raises(psycopg.errors.UndefinedColumn):
            conn.execute(wanted.replace("{}", "tablename, indexname").encode())
        found = conn.execute(wanted.replace("{}", "relname, indexrelname").encode()).fetchall()
    assert {("duework", "task", "task_due"), ("duework", "due_work_0", "due_work_0_pkey")} <= {
        row[:3] for row in found
    }
