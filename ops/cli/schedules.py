"""`duework task next` and `duework task backfill`: what a schedule will do, and what it should have done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from ops.cli.output import confirm, say
from ops.cli.remote import Remote, path, remote
from ops.cli.runs import instant, parameters
from ops.cli.tasks import Name, Reason, Yes

Start = Annotated[
    str | None,
    typer.Option(
        "--start", help='From when: a date or time, local to the task without an offset; or "7d" ago.'
    ),
]
End = Annotated[str | None, typer.Option("--end", help="Until when, exclusive; now, unless given.")]
Most = Annotated[int, typer.Option("--max", min=1, max=1000, help="Runs, at most; more are refused.")]
Params = Annotated[
    list[str] | None, typer.Option("-p", "--param", help="key=value; the value is JSON, or else text.")
]
Rerun = Annotated[bool, typer.Option("--rerun", help="Also what has succeeded or is queued already.")]
Priority = Annotated[int | None, typer.Option("--priority", min=1, max=9, help="Else the task's plus 2.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Show what would be queued, and queue nothing.")]
Stop = Annotated[bool, typer.Option("--cancel", help="End what backfills have queued, instead.")]
Only = Annotated[str | None, typer.Option("--id", help="With --cancel: only this backfill.")]
Running = Annotated[bool, typer.Option("--running", help="With --cancel: also what has begun.")]


@remote
def upcoming(
    api: Remote,
    name: Name,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=1000, help="How many.")] = 5,
) -> None:
    """Show when a task is due next, in its zone and in UTC. Clock changes and what is left out are told."""
    answer = api.get(path("tasks", name, "next"), n=count)
    say(answer["schedule"])
    for words in (*answer["warnings"], *answer["notes"], *left_out(answer), *clock_changes(answer)):
        say(f"note: {words}")
    shown = [{"next": each["at"], "utc": each["at"], **each} for each in answer["instants"]]
    jitter = ("run_at",) if answer["jitter_seconds"] else ()
    api.show(shown, "local", "utc", *jitter, "note")


@remote
def backfill(
    api: Remote,
    name: Name,
    start: Start = None,
    end: End = None,
    most: Most = 100,
    param: Params = None,
    rerun: Rerun = False,
    priority: Priority = None,
    dry_run: Dry = False,
    stop: Stop = False,
    only: Only = None,
    running: Running = False,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Run what a task's schedule names in a range of the past.

    Instants that have succeeded or are queued are left out. It is asked first how many runs that makes.
    """
    if stop:
        _refuse(any((start, end, param, rerun, priority, dry_run)), "--cancel")
        _stop(api, name, {"backfill_id": only, "running": running or None, "reason": reason}, yes)
        return
    _refuse(any((only, running, reason)), "--start")
    if start is None:
        raise typer.BadParameter("a backfill needs a start", param_hint="--start")
    asked = {
        "start": instant(start), "end": instant(end), "max": most, "priority": priority,
        "rerun": rerun or None, "params": parameters(param) if param else None,
    }  # fmt: skip
    answer = _queued(api, name, _given(asked), dry_run, yes)
    say(answer["message"])
    if answer["backfill_id"]:
        say(f"backfill {answer['backfill_id']}; `duework task backfill {name} --cancel` ends it")
    api.show(_listed(answer), "scheduled_for", "run_id", "left_out")


def left_out(answer: Mapping[str, Any]) -> Iterable[str]:
    """What a preview names and does not fire."""
    return (f"{each['wall']} is left out: {each['note']}" for each in answer["left_out"])


def clock_changes(answer: Mapping[str, Any]) -> Iterable[str]:
    """What the clock changes ahead do to a schedule; those that touch nothing are passed over."""
    for day in answer["clock_changes"]:
        touched = [each for each in day["instants"] if each["asked"] or each["fold"]]
        for each in (*touched, *day["left_out"]):
            yield f"{(each.get('wall') or each['local'])[:10]}: {each['note']}"


def _listed(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The instants of a range in order, each with its run or why it has none."""
    gone = [{**each, "run_id": None, "left_out": each["reason"]} for each in answer["left_out"]]
    return sorted([*answer["runs"], *gone], key=lambda each: str(each["scheduled_for"]))


def _refuse(wrong: bool, option: str) -> None:
    if wrong:
        others = "--id, --running and --reason"
        raise typer.BadParameter(f"--cancel goes with {others} alone, and they with it", param_hint=option)


def _queued(api: Remote, name: str, body: dict[str, Any], dry_run: bool, yes: bool) -> dict[str, Any]:
    """The server's answer; what would be queued is found out, and asked about, before anything is."""
    place = path("tasks", name, "backfill")
    planned: dict[str, Any] = api.post(place, body | {"dry_run": True})
    if dry_run or not planned["queued"]:
        return planned
    confirm(f"Queue {planned['queued']} runs of {name!r}?", yes)
    made: dict[str, Any] = api.post(place, body)
    return made


def _stop(api: Remote, name: str, asked: Mapping[str, Any], yes: bool) -> None:
    confirm(f"Cancel what backfills of {name!r} have queued?", yes)
    answer = api.post(path("tasks", name, "backfill", "cancel"), _given(asked))
    say(answer["message"])
    api.show(answer, "task", "canceled", "canceling", "running")


def _given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
