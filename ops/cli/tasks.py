"""`duework task …`: list, look at, pause, resume, snooze, cancel."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from engine.durations import parse_duration
from ops.cli.output import confirm
from ops.cli.remote import Remote, path, remote

Name = Annotated[str, typer.Argument(help="The task's name or id.", show_default=False)]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; it is kept with the task.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, at most.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
COLUMNS = ("name", "state", "schedule", "next_run")


@remote
def list_tasks(
    api: Remote,
    status: Annotated[str | None, typer.Option("--status", help="active, paused or canceled.")] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="rrule, cron, every, once, event, condition, manual.")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", "-l", help="name=value.")] = None,
    search: Annotated[str | None, typer.Option("--search", help="Words of the name or title.")] = None,
    limit: Limit = 100,
) -> None:
    """List tasks."""
    items = api.pages("/tasks", limit, status=status, kind=kind, label=label, q=search)
    api.show(items, *COLUMNS)


@remote
def get(api: Remote, name: Name) -> None:
    """Show one task: its definition, its state and when it is due next."""
    api.show(api.get(path("tasks", name)))


@remote
def pause(api: Remote, name: Name, reason: Reason = None) -> None:
    """Pause a task: what its schedule names meanwhile is not run. Run-now stays possible."""
    _change(api, name, "pause", {"reason": reason})


@remote
def resume(api: Remote, name: Name) -> None:
    """Let a paused task run by its schedule again."""
    _change(api, name, "resume", {})


@remote
def snooze(
    api: Remote,
    name: Name,
    delay: Annotated[str | None, typer.Option("--for", help='How long: "2h", "1d".')] = None,
    until: Annotated[str | None, typer.Option("--until", help="Until when: 2026-12-01T09:00:00Z.")] = None,
    reason: Reason = None,
) -> None:
    """Skip what the schedule names for a while."""
    if (delay is None) == (until is None):
        raise typer.BadParameter("give one of --for and --until", param_hint="--for")
    seconds = None if delay is None else parse_duration(delay).total_seconds()
    _change(api, name, "snooze", {"delay_seconds": seconds, "until": until, "reason": reason})


@remote
def cancel(api: Remote, name: Name, reason: Reason = None, yes: Yes = False) -> None:
    """End a task for good, and what of it nobody has begun. Its history is kept."""
    confirm(f"Cancel the task {name!r} for good?", yes)
    _change(api, name, "cancel", {"reason": reason})


@remote
def history(api: Remote, name: Name, limit: Limit = 20) -> None:
    """List the runs of a task, the latest first."""
    task = api.get(path("tasks", name))
    items = api.pages("/runs", limit, task_id=task["id"])
    api.show(items, "run_id", "status", "trigger", "attempt", "scheduled_for", "finished_at", "duration_ms")


def _change(api: Remote, name: str, action: str, body: dict[str, Any]) -> None:
    given = {member: value for member, value in body.items() if value is not None}
    api.show(api.post(path("tasks", name, action), given), "name", "state", "next_run")
