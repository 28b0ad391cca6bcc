"""`duework apply`: bring the server's tasks to what files say, all of them or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.errors import DueworkError, Problem, ValidationFailed
from engine.settings import load
from engine.tools.registry import load_catalog
from ops.cli.definitions import line_of
from ops.cli.documents import Checked, check
from ops.cli.exits import Exit
from ops.cli.output import confirm, say
from ops.cli.remote import Remote, remote
from ops.cli.schedules import clock_changes
from ops.cli.tasks import Yes


@remote
def apply(
    api: Remote,
    paths: Annotated[
        list[Path],
        typer.Option(
            "-f",
            "--file",
            metavar="PATH",
            help="A file, a folder, or -; may be repeated.",
            show_default=False,
        ),
    ],
    set_name: Annotated[str | None, typer.Option("--set", help="The set that these tasks belong to.")] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Cancel the tasks of the set that no file names.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would happen, and change nothing.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Create and change tasks from files. One bad document, and nothing is written.

    A task is known by its name: applying the same files again changes nothing.
    """
    found = _readable(paths)
    if prune and not dry_run:
        gone = [
            each["name"] for each in _send(api, found, set_name, prune, True) if each["result"] == "removed"
        ]
        if gone:
            confirm(f"Cancel {', '.join(gone)}?", yes)
    results = _send(api, found, set_name, prune, dry_run)
    for each in results:
        for words in _remarks(each) if each["result"] in ("created", "changed") else ():
            say(f"{each['name']}: {words}")
    rows = [{**each, "first": next(iter(each["next"]), None)} for each in results]
    api.show(rows, "name", "result", "version", "schedule", "first")
    if dry_run:
        say("nothing was changed")


def _remarks(result: Mapping[str, Any]) -> Iterator[str]:
    """What a person should know of a task that was stored: warnings, and the clock changes ahead."""
    yield from (f"warning: {each['detail']}" for each in result["warnings"])
    yield from clock_changes(result)


def _readable(paths: Sequence[Path]) -> list[Checked]:
    """The documents, if all of them are definitions; the rest (tools, scopes, the gate) is for the server to say."""
    found = check(paths, load_catalog(load()))
    wrong = [each for each in found if each.definition is None]
    for each in wrong:
        for problem in each.errors:
            say(line_of(each.source, "error", problem))
    if wrong:
        say("error: nothing was sent")
        raise typer.Exit(Exit.INVALID)
    return found


def _send(
    api: Remote, found: Sequence[Checked], set_name: str | None, prune: bool, dry_run: bool
) -> list[dict[str, Any]]:
    documents = [each.document.value for each in found if each.document]
    parameters = {"set": set_name, "prune": prune or None, "dry_run": dry_run or None}
    try:
        answer = api.post("/apply", documents, **parameters)
    except ValidationFailed as error:
        raise _placed(error, found) from error
    results: list[dict[str, Any]] = answer["results"]
    return results


def _placed(error: DueworkError, found: Sequence[Checked]) -> DueworkError:
    """The server's refusal with places in the files: `/1/steps/0` is the second document's first step."""
    error.errors = [_in_file(problem, found) for problem in error.errors]
    return error


def _in_file(problem: Problem, found: Sequence[Checked]) -> Problem:
    number, _, rest = problem.pointer.removeprefix("/").partition("/")
    if len(found) == 1:
        number, rest = "0", problem.pointer.removeprefix("/")
    if not number.isdecimal() or int(number) >= len(found):
        return problem
    each = found[int(number)]
    pointer = f"/{rest}" if rest else ""
    place = each.document.position(pointer) if each.document else None
    line, column = place or (None, None)
    return replace(
        problem, pointer=f"{each.source}{'#' if pointer else ''}{pointer}", line=line, column=column
    )
