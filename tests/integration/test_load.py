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
