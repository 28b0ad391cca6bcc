"""The API as a process: it comes up, serves over a socket, and goes down politely."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from api import main
from engine.db import Connection
from engine.settings import Settings, child_environment
from engine.store import leases
from tests.factories import lease_one, one, run_row
from tests.integration.api.clients import SYSTEM, pipeline
from tests.polling import poll_until


@contextmanager
def server(
    settings: Settings, log: Path, *command: str, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A server process that ends with the block."""
    extra = {"DUEWORK_LOG_FORMAT": "json", **environment}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=child_environment(settings, **extra),
            stdout=stream,
            stderr=stream,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has."""
    return process.poll() is not None


def events(log: Path) -> list[dict[str, Any]]:
    """Its log lines that are JSON."""
    lines = log.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


async def url_of(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where the server listens, once it does."""

    def started() -> list[dict[str, Any]]:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        return [line for line in events(log) if line["event"] == "api.started"]

    (line,) = await poll_until(started, 30)
    return f"http://{line['host']}:{line['port']}"


async def test_a_server_serves_and_finishes_what_is_under_way(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    """SIGTERM while a client waits for its run: the client gets its answer, then the process ends with 0."""
    log = tmp_path / "api.log"
    with server(settings, log, "ops.cli", "api", "--port", "0") as process:
        async with httpx2.AsyncClient(
            base_url=await url_of(process, log), headers=SYSTEM, timeout=180
        ) as api:
            assert (await api.post("/v1/tasks/", json=pipeline())).status_code == 201
            waiting = asyncio.create_task(api.post("/tasks/job/run_now", headers={"Prefer": "wait=20"}))
            await poll_until(lambda: one(conn, "SELECT count(*) FROM duework.due_work"))
            lease = await lease_one(conn)
            process.send_signal(signal.SIGTERM)
            await leases.settle(conn, [run_row(lease, output={"n": 1})], [])
            assert (await waiting).json()["output"] == {"n": 1}
        assert await poll_until(partial(ended, process), 15)
        assert process.returncode == 0
    requests = [line for line in events(log) if line["event"] == "api.request"]
    assert [line["status"] for line in requests] == [201, 200]
    assert "Uvicorn" not in log.read_text(encoding="utf-8")


async def test_the_seeds_way_to_start_it(settings: Settings, tmp_path: Path) -> None:
    """`uvicorn api.main:app --port …` serves the same application."""
    log = tmp_path / "uvicorn.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with server(settings, log, "uvicorn", "api.main:app", "--port", str(port)) as process:

        async def healthy() -> bool:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            try:
                async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=SYSTEM) as api:
                    return (await api.get("/tasks")).status_code == 200
            except httpx2.TransportError:
                return False

        assert await poll_until(healthy, 30)


async def test_what_keeps_it_from_starting_is_said(settings: Settings, tmp_path: Path) -> None:
    """A taken port and an open host without credentials: one clear message, and an exit code that says failure."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, message in (
            (("--port", port), "DUEWORK_PORT"),
            (("--host", "0.0.0.0"), "DUEWORK_HOST"),
        ):
            log = tmp_path / "failed.log"
            with server(settings, log, "ops.cli", "api", *arguments) as process:
                await poll_until(partial(ended, process), 30)
                text = log.read_text(encoding="utf-8")
                assert process.returncode not in (0, None), text
                assert message in text
                assert "Traceback" not in text


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """asyncio takes Nagle's algorithm off only where the socket names its protocol; else every answer takes 40 ms."""
    with main._listener(Settings(port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP
