"""`duework demo`: the whole story, as a user sees it, with an embedded server of its own."""

from __future__ import annotations

import fcntl
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops import embedded
from ops.cli.main import run
from tests.integration.cli.conftest import gone, processes_of, spawn
from tests.polling import poll_until

BOUND = 170  # seconds


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory that the account which runs PostgreSQL can enter, as pytest's own cannot be."""
    path = Path(tempfile.gettempdir()) / f"duework-demo-{secrets.token_hex(4)}"
    yield path
    embedded.stop(path / "demo")
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.timeout(2 * BOUND)
async def test_the_demo_tells_its_story_whatever_the_last_one_left(state: Path) -> None:
    """An interrupted demo stops what it started; the next ends with 0 and shows all that it promises."""
    await interrupted(state)
    out = demonstrated(state)
    for said in (
        "api-changed reacted: 'api.changed: ",
        "'slow':",
        "Release 1.4.2? The database looks well.",
        "'reason': 'this is a demo'",
        "blocked: ",
        "400 gate_blocked: ",
        "duework-> FROM duework.runs",
        "duework-> FROM duework.verdicts v",
        "What to try next",
    ):
        assert said in out, out
    assert "anna" + "@" not in out
    assert embedded.status(state / "demo") is None


def test_two_demos_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second demo beside a running one is refused before it touches anything."""
    monkeypatch.setenv("DUEWORK_STATE_DIR", str(tmp_path))
    with (tmp_path / "demo.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run(["demo"]) == 6
    assert "already running" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


async def interrupted(state: Path) -> None:
    """Start a demo and interrupt it once its processes run."""
    process = spawn(["demo"], {"DUEWORK_STATE_DIR": str(state)})
    try:
        await poll_until(
            lambda: len(processes_of(process.pid)) >= 5 or process.poll() is not None, timeout=180
        )
        children = processes_of(process.pid)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=180)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, out + err
    assert gone(children)
    assert embedded.status(state / "demo") is None


def demonstrated(state: Path) -> str:
    """The output of one demo."""
    process = spawn(["demo"], {"DUEWORK_STATE_DIR": str(state)})
    try:
        out, err = process.communicate(timeout=BOUND)
    except subprocess.TimeoutExpired:
        process.terminate()
        out, err = process.communicate()
    logs = "".join(
        path.read_text(encoding="utf-8")[-2000:] for path in (state / "demo" / "logs").glob("*.log")
    )
    assert process.returncode == 0, out + err + logs
    return out
