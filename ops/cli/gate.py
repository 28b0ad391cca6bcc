"""`duework reflex check`: what the gate says about a text, here and offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.reflex import DEFAULT_POLICY, judge
from ops.cli.exits import Exit
from ops.cli.output import Format, Output, say
from ops.cli.remote import Shape

COLUMNS = ("kind", "action", "severity", "confidence", "start", "end", "masked", "rule")


def check(
    path: Annotated[Path, typer.Argument(metavar="[FILE|-]", help="A text; - is standard input.")] = Path(
        "-"
    ),
    output: Shape = Format.TABLE,
) -> None:
    """Judge a text by the default policy: kinds and places, never the values. Exit code 7 when it is blocked."""
    text = typer.get_text_stream("stdin").read() if str(path) == "-" else path.read_text(encoding="utf-8")
    verdict = judge(text, DEFAULT_POLICY)
    if output is Format.TABLE:
        findings = [finding.as_dict() for finding in verdict.findings]
        if findings:
            Output().show(
                [each | {"kind": each.get("kind") or each["family"]} for each in findings], *COLUMNS
            )
    else:
        Output(output).show(verdict.as_dict())
    say(verdict.action)
    if verdict.action == "block":
        raise typer.Exit(Exit.BLOCKED)
