"""The benchmarks run, small: that they work is seen here, what they measure is not judged."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.load import children, gate, parts, steps
from tests.source import ROOT


def test_parts(capsys: pytest.CaptureFixture[str]) -> None:
    """Every part is measured beside its reference."""
    parts.main(["--calls", "5", "--rounds", "1"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(parts.pairs())


def test_children(capsys: pytest.CaptureFixture[str]) -> None:
    """Functions and programs are called, beside the same by hand."""
    children.main(["--calls", "3", "--rounds", "1"])
    shown = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert shown[2:] == ["python", "command tool", "command"]


def test_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """Every size of pipeline is measured, with and without the gate, and every part of a step."""
    steps.main(["--steps", "100", "--rounds", "1"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3 * 3 + 7 + 2


def test_gate(capsys: pytest.CaptureFixture[str]) -> None:
    """What the gate finds and costs is told, and hostile texts are tried."""
    gate.main(["--rounds", "0", "--texts", "2", "--sizes", "100,1000", "--hostile", "3"])
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.endswith("is not installed")]
    assert lines[1].split()[:2] == ["duework", "1.000"]
    assert [line.split()[0] for line in lines[4:6]] == ["100", "1000"]
    assert lines[6].startswith("hostile texts: 3;")
    assert len(lines) == 11


def printed(name: str, server_url: str, *arguments: str) -> str:
    """What the benchmark says, run as a command on the tests' server."""
    command = [sys.executable, "-m", f"tests.load.{name}", "--database-url", server_url, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_drain(server_url: str) -> None:
    """A small backlog is drained by all three variants."""
    told = printed("drain", server_url, "--jobs", "200", "--rounds", "1")
    assert [line.split()[0] for line in told.splitlines()[3:]] == ["bare", "1", "2"]


def test_keys(server_url: str) -> None:
    """The cost of concurrency keys is measured for rows without one, with one, and behind one; and the lease alone."""
    told = printed("keys", server_url, "--jobs", "200", "--waiting", "300", "--rounds", "1")
    assert len(told.splitlines()) == 3 + 7 + 3


def test_ticks(server_url: str) -> None:
    """Due tasks are materialised, each once, and an idle tick is timed and explained."""
    told = printed("ticks", server_url, "--tasks", "2000", "--due", "300", "--rounds", "1", "--idle", "5")
    assert "materialised        300 rows" in told


def test_punctual(server_url: str) -> None:
    """Runs start after their instant and never before it, and each instant has one."""
    told = printed("punctual", server_url, "--seconds", "3", "--tasks", "6")
    *_, warming, then, _, untold = told.splitlines()
    assert float(warming.split()[2]) >= 0
    assert float(then.split()[2]) >= 0
    assert int(then.split()[1]) >= 6
    assert untold == "0 instants without a run"


def test_limits(server_url: str) -> None:
    """Calls with each limit, with all and with none, beside the transport itself."""
    told = printed("limits", server_url, "--calls", "100", "--rounds", "1")
    assert len(told.splitlines()) >= 3 + 6
