"""`duework reflex allow`, `allowed`, `disallow`: false positives that people have marked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.cli.output import confirm, given_text, say
from ops.cli.remote import Remote, path, remote
from ops.cli.tasks import Limit, Yes

COLUMNS = ("id", "form", "pattern", "kind", "task", "status", "expires_at", "author", "reason")


@remote
def allow(
    api: Remote,
    reason: Annotated[str, typer.Option("--reason", help="Why it is a false positive.", show_default=False)],
    value: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE|-]", help="A file that holds the value; - is standard input."),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option("--pattern", help="RE2 for the whole of what is found, instead of a value.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only this kind or family.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="Only in this task, by name or id.")] = None,
    lasts: Annotated[str | None, typer.Option("--for", help="How long, as 30d; for ever without.")] = None,
) -> None:
    """Mark what the gate found as a false positive, so that it passes from now on. Needs reflex:loosen.

    The value is read from a file or standard input, so that no history of commands and no list of processes holds it;
    one line break at its end is no part of it. What is stored is a keyed digest.
    """
    if (value is None) == (pattern is None):
        raise typer.BadParameter("give a file with the value (- for standard input), or --pattern")
    given = {"reason": reason, "pattern": pattern, "kind": kind, "task": task, "expires_in": lasts}
    if value is not None:
        given["value"] = given_text(value).removesuffix("\n").removesuffix("\r")
    body = {name: each for name, each in given.items() if each is not None}
    api.show(api.post("/reflex/allowances", body), *COLUMNS)
    say("it counts in all processes within seconds; `duework reflex disallow ID` takes it back")


@remote
def allowed(
    api: Remote,
    task: Annotated[str | None, typer.Option("--task", help="Only marks for this task.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Expired and revoked ones as well.")] = False,
    limit: Limit = 50,
) -> None:
    """List what is marked as false positives, newest first."""
    status = None if every else "standing"
    api.show(api.pages("/reflex/allowances", limit, task=task, status=status), *COLUMNS)


@remote
def disallow(
    api: Remote,
    allowance: Annotated[str, typer.Argument(metavar="ID", help="The mark's id.", show_default=False)],
    yes: Yes = False,
) -> None:
    """Take a mark back: what it let pass is judged again, within seconds."""
    confirm(f"Take {allowance} back?", yes)
    api.send("DELETE", path("reflex", "allowances", allowance))
    say("taken back")
