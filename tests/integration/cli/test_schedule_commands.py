"""`duework task next` and `task backfill` against a running system."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., tuple[int, str, str]]
NIGHTLY = {"cron": "30 2 * * *", "timezone": "America/New_York", "dst": {"gap": "skip"}}
MARCH = ("--start", "2026-03-07", "--end", "2026-03-10")


@pytest.fixture
def nightly(duework: Command, tmp_path: Path) -> str:
    """A task at 02:30 in New York, which is skipped where it does not exist; its run gives its instant."""
    name = f"n-{secrets.token_hex(4)}"
    document: dict[str, Any] = {
        "apiVersion": "duework/v1",
        "kind": "Pipeline",
        "name": name,
        "schedule": NIGHTLY,
        "steps": [{"id": "only", "uses": "core.echo", "with": {"text": "${now}"}}],
        "output": {"now": "${steps.only.text}", "due": "${run.scheduled_for}"},
    }
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    code, _, err = duework("apply", "-f", str(path))
    assert code == 0, err
    assert f"{name}: " in err
    assert "02:30 does not exist on this day and is skipped" in err
    return name


def test_next_shows_zone_and_utc(duework: Command, nightly: str) -> None:
    """A table with local time and UTC; what a clock change does is told beside it."""
    code, out, err = duework("task", "next", nightly, "-n", "400")
    assert code == 0
    assert "LOCAL" in out.splitlines()[0]
    assert len(out.splitlines()) == 402
    assert "every day at 02:30, America/New_York" in err
    assert "02:30 does not exist on this day and is skipped" in err
    assert duework("task", "next", nightly, "-n", "1001")[0] == 2
    duework("task", "pause", nightly)
    assert "paused: none of these will run" in duework("task", "next", nightly)[2]


def test_a_backfill_runs_with_its_instants(duework: Command, nightly: str) -> None:
    """Two days that have 02:30 and none that has not; `now` in the pipeline is the instant of each run."""
    code, out, err = duework("task", "backfill", nightly, *MARCH, "--dry-run", "-o", "json")
    assert (code, "2 runs would be queued" in err) == (0, True)
    assert [each["run_id"] for each in json.loads(out)] == [None, None]
    code, out, err = duework("task", "backfill", nightly, *MARCH, "--yes", "-o", "name")
    assert (code, "2 runs queued" in err) == (0, True)
    given = []
    for run_id in out.split():
        code, shown, _ = duework("run", "watch", run_id, "--wait", "30s", "--query", "output", "-o", "json")
        assert code == 0
        given.append(json.loads(shown))
    assert [each["now"] for each in given] == ["2026-03-07T07:30:00Z", "2026-03-09T06:30:00Z"]
    assert [each["due"] for each in given] == ["2026-03-07T07:30:00+00:00", "2026-03-09T06:30:00+00:00"]
    code, out, err = duework("task", "backfill", nightly, *MARCH, "-o", "json")
    assert (code, "0 runs would be queued, 2 of 2 instants left out" in err) == (0, True)
    assert {each["left_out"] for each in json.loads(out)} == {"succeeded"}


def test_a_backfill_asks_first_and_can_be_canceled(duework: Command, nightly: str) -> None:
    """Without a terminal it needs --yes; what is queued ends with --cancel."""
    code, out, err = duework("task", "backfill", nightly, *MARCH)
    assert (code, out) == (2, "")
    assert "Queue 2 runs" in err
    duework("task", "pause", nightly)
    assert duework("task", "backfill", nightly, "--cancel")[0] == 2
    code, out, _ = duework("task", "backfill", nightly, "--cancel", "--yes", "-o", "json")
    assert (code, json.loads(out)["canceled"]) == (0, 0)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "--start"),
        (("--start", "7d", "--running"), 2, "--cancel"),
        (("--start", "7d", "--cancel"), 2, "--cancel"),
        (("--start", "soon"), 3, "/start"),
        (("--start", "900d", "--max", "3"), 3, "raise max"),
        (("--start", "2026-03-01", "--end", "2126-01-01"), 3, "/end"),
    ],
)
def test_a_backfill_that_cannot_be(
    duework: Command, nightly: str, words: tuple[str, ...], code: int, said: str
) -> None:
    """What is wrong, by exit code and by name."""
    found, out, err = duework("task", "backfill", nightly, *words)
    assert (found, out, said in err) == (code, "", True), err


def test_an_unknown_task_is_exit_code_4(duework: Command) -> None:
    """Nothing of that name."""
    assert duework("task", "backfill", "nobody-made-this", "--start", "7d")[0] == 4
    assert duework("task", "next", "nobody-made-this")[0] == 4
