"""The benchmarks run, small: that they work is seen here, what they measure is not judged."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.load import parts
from tests.source import ROOT


def test_parts(capsys: pytest.CaptureFixture[str]) -> None:
    """Every part is measured beside its reference."""
    parts.main(["--calls", "5", "--rounds", "1"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(parts.pairs())


def test_drain(server_url: str) -> None:
    """A small backlog is drained by all three variants."""
    command = [sys.executable, "-m", "tests.load.drain", "--jobs", "200", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--database-url", server_url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[3:]] == ["bare", "1", "2"]


def test_keys(server_url: str) -> None:
    """The cost of concurrency keys is measured for rows without one, with one, and behind one."""
    command = [sys.executable, "-m", "tests.load.keys", "--jobs", "200", "--waiting", "300", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--database-url", server_url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3 + 7


def test_ticks(server_url: str) -> None:
    """Due tasks are materialised, each once, and an idle tick is timed and explained."""
    command = [sys.executable, "-m", "tests.load.ticks", "--tasks", "2000", "--due", "300", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--idle", "5", "--database-url", server_url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "materialised        300 rows" in done.stdout


def test_punctual(server_url: str) -> None:
    """Runs start after their instant and never before it, and each instant has one."""
    command = [sys.executable, "-m", "tests.load.punctual", "--seconds", "3", "--tasks", "6"]
    done = subprocess.run(
        [*command, "--database-url", server_url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, warming, then, _, untold = done.stdout.splitlines()
    assert float(warming.split()[2]) >= 0
    assert float(then.split()[2]) >= 0
    assert int(then.split()[1]) >= 6
    assert untold == "0 instants without a run"
