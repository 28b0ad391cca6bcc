"""`duework submit GOAL`: a goal in words, for the pipeline that is configured for goals."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ops.cli import exits
from ops.cli.output import say
from ops.cli.remote import Remote, path, remote
from ops.cli.runs import Wait, follow, parameters

COLUMNS = ("task_id", "status", "goal", "result", "error", "processing_time_ms")


@remote
def submit(
    api: Remote,
    goal: Annotated[str, typer.Argument(help="What is to be done, in words.", show_default=False)],
    context: Annotated[str | None, typer.Option("--context", help="What is good to know.")] = None,
    criterion: Annotated[
        list[str] | None, typer.Option("--criterion", help="What tells that it is done; may be repeated.")
    ] = None,
    constraint: Annotated[
        list[str] | None, typer.Option("--constraint", help="key=value; the value is JSON, or else text.")
    ] = None,
    metadata: Annotated[list[str] | None, typer.Option("--metadata", help="key=value, as above.")] = None,
    budget: Annotated[
        list[str] | None, typer.Option("--budget", help="max_tokens=…, max_time_seconds=… or max_cost_usd=…")
    ] = None,
    priority: Annotated[str, typer.Option("--priority", help="critical, high, medium or low.")] = "medium",
    wait: Wait = None,
) -> None:
    """Submit a goal. With --wait, end as its run ends: 0 succeeded, 7 blocked, 8 still running, else 1."""
    body: dict[str, Any] = {"goal": goal, "priority": priority}
    pairs = {"constraints": constraint, "metadata": metadata, "budget": budget}
    body |= {name: parameters(given) for name, given in pairs.items() if given}
    body |= {"context": context} if context else {}
    body |= {"acceptance_criteria": criterion} if criterion else {}
    made = api.post("/submit", body)
    say(made["message"])
    run = None if wait is None else follow(api, made["task_id"], wait)
    api.show(api.get(path("tasks", made["task_id"])), *COLUMNS)
    if run is not None:
        raise typer.Exit(exits.of_run(run["status"]))
