"""One running system for the command line's tests: `duework up` on a database of its own, with real processes."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from engine import db
from engine.store import agents
from ops import dev
from ops.cli.main import run
from tests import postgres
from tests.polling import poll_until


@dataclass(frozen=True, slots=True)
class System:
    """A running `duework up`: where its API is, an admin's token for it, and its database."""

    url: str
    token: str
    database_url: str


@pytest.fixture(scope="module")
def system(
    server_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """`duework up --workers 1`, ready to serve; every module of tests has its own."""
    state = tmp_path_factory.mktemp("state")
    with postgres.database(server_url, template_database) as url:
        token = asyncio.run(admin_token(url))
        process, api = launched(url, state, "--workers", "1")
        try:
            asyncio.run(until_ready(process, api))
            yield System(api, token, url)
        finally:
            end(process)


@pytest.fixture
def duework(
    system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run one command line against the system: (exit code, stdout, stderr)."""
    monkeypatch.setenv("DUEWORK_URL", system.url)
    monkeypatch.setenv("DUEWORK_TOKEN", system.token)
    monkeypatch.setenv("DUEWORK_DATABASE_URL", system.database_url)

    def command(*words: str) -> tuple[int, str, str]:
        code = run(list(words))
        return code, *capsys.readouterr()

    return command


@asynccontextmanager
async def started(
    database_url: str, state: Path, *words: str
) -> AsyncIterator[tuple[subprocess.Popen[str], str]]:
    """`duework up` as a process, once its API is ready; stopped afterwards if it still runs."""
    process, url = launched(database_url, state, *words)
    try:
        await until_ready(process, url)
        yield process, url
    finally:
        end(process)


def launched(database_url: str, state: Path, *words: str) -> tuple[subprocess.Popen[str], str]:
    """A `duework up` that was just started, and where its API will be."""
    port = dev.free_port("127.0.0.1", random.randrange(33_000, 60_000))
    given = {"DUEWORK_DATABASE_URL": database_url, "DUEWORK_STATE_DIR": str(state)}
    given["DUEWORK_CONNECTIONS"] = f"duework={database_url}"
    return spawn(["up", "--port", str(port), *words], given), f"http://127.0.0.1:{port}"


async def until_ready(process: subprocess.Popen[str], url: str) -> None:
    """Wait until the API serves; fail with what was said when the process ends instead."""
    await poll_until(lambda: ready(url) or process.poll() is not None, timeout=180)
    assert process.poll() is None, process.communicate()


def end(process: subprocess.Popen[str]) -> None:
    """Have a process drain; kill it when it does not."""
    if process.poll() is None:
        process.terminate()
    try:
        process.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def spawn(words: Sequence[str], given: Mapping[str, str]) -> subprocess.Popen[str]:
    """A duework process with these variables over ours."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "ops.cli", *words],
        env={**os.environ, **given},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ready(url: str) -> bool:
    """Whether the API there says that everything works."""
    try:
        return httpx2.get(f"{url}/ready", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


async def admin_token(url: str) -> str:
    """A token of a new agent that may do everything."""
    async with await db.connect(url, "test") as conn:
        row = await agents.create(conn, f"tester-{secrets.token_hex(3)}", ["admin"])
        return await agents.add_token(conn, row["id"])


def processes_of(parent: int) -> list[int]:
    """The pids below a process, its children's children too."""
    children = [
        int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _parent(path) == parent
    ]
    return [*children, *(pid for child in children for pid in processes_of(child))]


def gone(pids: list[int]) -> bool:
    """Whether none of these processes runs any more."""
    return not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _parent(stat: Path) -> int | None:
    try:
        return int(stat.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return None
