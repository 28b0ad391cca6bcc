"""The console entry: run one command, turn every expected failure into one line and an exit code.

Data goes to stdout, words to stderr. A failure that duework expects never shows a traceback; one that it does
not expect does, because then the traceback is what the report needs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from engine.errors import DueworkError, Problem
from ops.cli import exits, tree
from ops.cli.output import masked


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point of the `duework` command. Always ends by SystemExit with a code of `Exit`."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    shown = {(): ["--help"], ("--version",): ["version"]}
    words = shown.get(tuple(argv), list(argv))
    try:
        answer = tree.root().main(words, prog_name="duework", standalone_mode=False)
    except DueworkError as error:
        report(error)
        return exits.of_error(error)
    except typer.TyperException as error:  # wrong usage
        _refuse(error)
        return exits.Exit.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return 130
    return answer if isinstance(answer, int) else exits.Exit.OK


def report(error: DueworkError) -> None:
    """`error: message`, then each problem with its place; masked, since what is printed here ends in logs of others.

    Where a server could not be reached, its address is what one has to see.
    """
    if exits.of_error(error) is not exits.Exit.UNREACHABLE:
        error = DueworkError(masked(error.message), [masked(each) for each in error.errors])
    print(f"error: {error.message}", file=sys.stderr)
    for problem in error.errors:
        if problem.line is None and len(error.errors) == 1 and _told(problem, error.message):
            continue
        place = problem.pointer or "/"
        if problem.line is not None:
            place += f" (line {problem.line}, column {problem.column})"
        print(f"  {place}: {problem.detail} [{problem.code}]", file=sys.stderr)


def _told(problem: Problem, message: str) -> bool:
    """Whether the one sentence says all of the one problem: its words, and what its place is called."""
    names = [name for name in problem.pointer.split("/") if name and not name.isdigit()]
    return problem.detail in message and all(name in message for name in names[-1:])


def _refuse(error: typer.TyperException) -> None:
    print(f"error: {masked(error.format_message())}", file=sys.stderr)
    context = getattr(error, "ctx", None)
    if context is not None:
        print(f"see `{context.command_path} --help`", file=sys.stderr)
