"""`duework up`: everything runs, comes back when it is killed, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

from tests.integration.cli.conftest import gone, processes_of, ready, spawn, started
from tests.polling import poll_until


async def test_a_killed_child_is_started_again(database_url: str, tmp_path: Path) -> None:
    """`kill -9` of every child: the API answers again, and what happened was said."""
    async with started(database_url, tmp_path, "--workers", "1") as (process, url):
        before = processes_of(process.pid)
        assert len(before) == 3
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await poll_until(lambda: len(set(processes_of(process.pid)) - set(before)) == 3, timeout=180)
        await poll_until(lambda: ready(url), timeout=180)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=180)
        assert process.returncode == 0
        assert url in out
        assert "signal SIGKILL and starts again" in err


async def test_sigterm_drains_everything(database_url: str, tmp_path: Path) -> None:
    """All children end with it, and their logs are kept."""
    async with started(database_url, tmp_path, "--workers", "2", "-v") as (process, _):
        written = [tmp_path / "logs" / f"worker-{number}.log" for number in (1, 2)]
        await poll_until(lambda: all("worker.started" in log.read_text("utf-8") for log in written))
        children = processes_of(process.pid)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=180)
        assert process.returncode == 0
        assert "\nworker-2  {" in err
        assert gone(children)
        logs = {path.name for path in (tmp_path / "logs").iterdir()}
        assert logs == {"api.log", "scheduler.log", "worker-1.log", "worker-2.log"}
        assert "worker.stopped" in (tmp_path / "logs" / "worker-1.log").read_text(encoding="utf-8")


async def test_children_do_not_outlive_a_killed_parent(database_url: str, tmp_path: Path) -> None:
    """`kill -9` of `up` itself leaves no orphan behind."""
    async with started(database_url, tmp_path, "--workers", "1") as (process, _):
        children = processes_of(process.pid)
        process.kill()
        process.communicate()
        await poll_until(lambda: gone(children), timeout=180)


async def test_a_taken_port_is_stepped_over(database_url: str, tmp_path: Path) -> None:
    """The next free port is taken, and said."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        given = {"DUEWORK_DATABASE_URL": database_url, "DUEWORK_STATE_DIR": str(tmp_path)}
        process = spawn(["up", "--workers", "1", "--port", str(port)], given)
        try:
            await poll_until(
                lambda: any(ready(f"http://127.0.0.1:{port + n}") for n in (1, 2, 3)), timeout=180
            )
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=180)
        told = (f"port {port} is taken; the API takes {port + n}" for n in (1, 2, 3))
        assert any(line in err for line in told), "the next may be somebody else's as well"


def test_a_database_that_is_not_there_is_told(tmp_path: Path) -> None:
    """No server at the URL: exit code 9 at once, nothing is started."""
    given = {
        "DUEWORK_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "DUEWORK_STATE_DIR": str(tmp_path),
    }
    process = spawn(["up"], given)
    try:
        _, err = process.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 9
    assert err.startswith("error: cannot connect")
