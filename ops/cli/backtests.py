"""`duework reflex backtest`: what other patterns, or another policy, would have done to past runs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.durations import parse_duration
from engine.errors import ValidationFailed
from engine.reflex import parse_policy
from engine.reflex.edition import judged_by, read_edition
from engine.reflex.proof import prepare, prove
from ops.backtest import Candidate, Report
from ops.backtest import backtest as judge_again
from ops.cli.exits import Exit
from ops.cli.local import loaded
from ops.cli.output import Format, Output, say
from ops.cli.remote import Query, Shape

COLUMNS = ("task", "step", "direction", "kind", "rule", "before", "after", "places", "pointers")
SETS = ("allow", "on")  # members of a policy that are lists


def backtest(
    since: Annotated[str, typer.Option("--since", help='A time, or how long ago: "7d".')] = "7d",
    patterns: Annotated[
        Path | None,
        typer.Option("--patterns", help="Candidate: a file of rows, in place of DUEWORK_REFLEX_KINDS."),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", help="Candidate: a member of every step's policy, as pii=block; repeatable."
        ),
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="Only this task, by name or id.")] = None,
    output: Shape = Format.TABLE,
    query: Query = None,
) -> None:
    """Judge again what is stored of past steps, and show what would change. Exit code 1 when anything would.

    Inputs and outputs of steps that passed are judged by the candidate and compared with the gate as it is here;
    without a candidate, the gate as it is here is compared with what was decided then. Nothing is written, and no
    value is shown. Values that were blocked are not stored, so they cannot be judged again; of redacted ones only
    marks are left.
    """
    settings = loaded()
    prepare(settings)
    report = asyncio.run(judge_again(settings, _candidate(patterns, policy or []), _since(since), task))
    if output is not Format.TABLE or query:
        Output(output, query).show(report.as_dict())
    elif report.differs:
        Output().show(report.as_dict()["changes"], *COLUMNS)
    _tell(report)
    if report.differs:
        raise typer.Exit(Exit.FAILED)


def _candidate(patterns: Path | None, policy: list[str]) -> Candidate:
    edition = read_edition(patterns) if patterns else None
    if edition is None:
        return Candidate(None, _members(policy))
    prove(edition)
    with judged_by(edition):  # a policy may allow kinds that only the candidate has
        return Candidate(edition, _members(policy))


def _members(given: list[str]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise typer.BadParameter(f"{each!r} is not of the form pii=block", param_hint="--policy")
        members[name] = [part for part in value.split(",") if part] if name in SETS else value
    return parse_policy(members)


def _since(text: str) -> datetime | timedelta:
    try:
        return parse_duration(text)
    except ValidationFailed:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a time nor a length of time", param_hint="--since"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _tell(report: Report) -> None:
    told = report.as_dict()
    say(
        f"{told['values']} values of {told['runs']} runs since {report.since:%Y-%m-%d %H:%M:%S %Z} judged again, "
        f"compared with {told['compared_with']}"
    )
    when = "now" if report.candidate else "then"
    for each in told["values_changed"]:
        say(f"{each['values']} would be {_said(each['after'])} ({when} {_said(each['before'])})")
    if report.blocked:
        say(f"{report.blocked} blocked steps: what was refused is not stored and cannot be judged again")


def _said(action: str) -> str:
    return {"pass": "passed", "flag": "flagged", "redact": "redacted", "block": "blocked"}[action]
