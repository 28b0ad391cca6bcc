"""`duework run NAME` and `duework run …`: start runs, wait for them, look at them."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from engine.durations import parse_duration
from engine.errors import ValidationFailed
from ops.cli import exits
from ops.cli.output import say
from ops.cli.remote import Remote, path, remote
from ops.cli.tasks import Limit, Reason

FINAL = frozenset({"succeeded", "failed", "blocked", "canceled", "timed_out", "dead", "missed", "skipped"})
COLUMNS = ("run_id", "task", "status", "trigger", "attempt", "scheduled_for", "finished_at", "duration_ms")
FIRST_LOOK, LAST_LOOK = 0.05, 1.0  # seconds between two looks at a run: short at first, then longer

RunId = Annotated[str, typer.Argument(help="The run's id.", show_default=False)]
Wait = Annotated[str | None, typer.Option("--wait", help='Wait this long for its end: "30s".')]


@remote
def start(
    api: Remote,
    name: Annotated[str, typer.Argument(help="The task's name or id.", show_default=False)],
    param: Annotated[
        list[str] | None, typer.Option("-p", "--param", help="key=value; the value is JSON, or else text.")
    ] = None,
    wait: Wait = None,
) -> None:
    """Run a task now. With --wait, end as the run ends: 0 succeeded, 7 blocked, 8 still running, else 1."""
    body = {"params": parameters(param)} if param else {}
    run_id = api.post(path("tasks", name, "run_now"), body)["run_id"]
    if wait is None:
        api.show(api.get(path("runs", run_id)), *COLUMNS)
        return
    _finish(api, run_id, wait)


@remote
def list_runs(
    api: Remote,
    task: Annotated[str | None, typer.Option("--task", help="Only of this task: name or id.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="Only with this status.")] = None,
    since: Annotated[str | None, typer.Option("--since", help='A time, or how long ago: "1h".')] = None,
    limit: Limit = 50,
) -> None:
    """List runs, the latest first; live ones included."""
    task_id = None if task is None else api.get(path("tasks", task))["id"]
    api.show(api.pages("/runs", limit, task_id=task_id, status=status, since=instant(since)), *COLUMNS)


@remote
def get(api: Remote, run_id: RunId) -> None:
    """Show one run: its attempts, its steps, and what the gate said."""
    api.show(api.get(path("runs", run_id)))


@remote
def watch(api: Remote, run_id: RunId, wait: Wait = "1h") -> None:
    """Follow a run to its end, and end as it does."""
    _finish(api, run_id, wait or "1h")


@remote
def cancel(api: Remote, run_id: RunId, reason: Reason = None) -> None:
    """Cancel a run: a queued one at once, a running one within seconds, with what its step has started."""
    api.show(api.post(path("runs", run_id, "cancel"), {"reason": reason} if reason else {}))


@remote
def approve(
    api: Remote,
    run_id: RunId,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit log.")],
    step: Annotated[str | None, typer.Option("--step", help="Where more than one waits.")] = None,
    item: Annotated[int | None, typer.Option("--item", help="Which item of the step's foreach.")] = None,
    refuse: Annotated[bool, typer.Option("--refuse", help="Refuse instead.")] = False,
) -> None:
    """Approve what a run waits for, or refuse it: `duework run get` shows what that is."""
    body = {"decision": "refuse" if refuse else "approve", "reason": reason, "step": step, "item": item}
    given = {name: value for name, value in body.items() if value is not None}
    api.show(api.post(path("runs", run_id, "approve"), given), *COLUMNS)


@remote
def retry(api: Remote, run_id: RunId) -> None:
    """Run a finished run's task again with the same parameters."""
    api.show(api.post(path("runs", run_id, "retry"), {}))


def parameters(pairs: list[str]) -> dict[str, Any]:
    """`key=value` pairs as a mapping: `n=3` is a number, `name=Ada` a text, `name='"3"'` the text 3."""
    answer = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise typer.BadParameter(f"{pair!r} is not key=value", param_hint="-p")
        try:
            answer[key] = json.loads(text)
        except json.JSONDecodeError:
            answer[key] = text
    return answer


def instant(given: str | None) -> str | None:
    """A time as it is, a length of time as the instant that long ago."""
    try:
        return given and (datetime.now(UTC) - parse_duration(given)).isoformat()
    except ValidationFailed:
        return given


def _finish(api: Remote, run_id: str, wait: str) -> None:
    """Wait for the end of a run, print it, and end the command with the run's own exit code."""
    run = follow(api, run_id, wait)
    api.show(run)
    if any(block["status"] == "held" for block in run["quarantine"]):
        say(f'the gate holds it: `duework run release {run_id} --reason "…"` lets pass what it found')
    raise typer.Exit(exits.of_run(run["status"]))


def follow(api: Remote, run_id: str, wait: str) -> dict[str, Any]:
    """Wait for the end of a run, with a word at each turn. Ends the command when `wait` is over."""
    deadline = time.monotonic() + parse_duration(wait).total_seconds()
    pause, seen = FIRST_LOOK, ""
    while (run := api.get(path("runs", run_id)))["status"] not in FINAL:
        if run["status"] != seen:
            seen = run["status"]
            say(f"{run_id} {seen}")
        if time.monotonic() > deadline:
            say(f"it goes on after {wait}; `duework run watch {run_id}` waits on")
            raise typer.Exit(exits.Exit.WAIT_TIMED_OUT)
        time.sleep(pause)
        pause = min(pause * 1.5, LAST_LOOK)
    return dict(run)
