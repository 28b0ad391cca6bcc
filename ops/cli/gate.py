"""`duework reflex check` and `kinds`: what the gate says about a text, and what it looks for, here and offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.reflex import DEFAULT_POLICY, judge
from engine.reflex.edition import Edition, edition, read_edition
from engine.reflex.findings import mark
from engine.reflex.proof import prove
from ops.cli.exits import Exit
from ops.cli.output import Format, Output, given_text, say
from ops.cli.remote import Shape

COLUMNS = ("kind", "action", "severity", "confidence", "start", "end", "masked", "rule")


def check(
    path: Annotated[Path, typer.Argument(metavar="[FILE|-]", help="A text; - is standard input.")] = Path(
        "-"
    ),
    output: Shape = Format.TABLE,
) -> None:
    """Judge a text by the default policy: kinds and places, never the values. Exit code 7 when it is blocked."""
    verdict = judge(given_text(path), DEFAULT_POLICY)
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


def kinds(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A file of patterns to prove and list instead."),
    ] = None,
    output: Shape = Format.TABLE,
) -> None:
    """List the kinds of personal data that are looked for here, custom ones of DUEWORK_REFLEX_KINDS among them.

    A file is proven first: its expressions and examples, as a process does when it starts. Exit code 3 when it is not
    sound.
    """
    used = edition() if path is None else read_edition(path)
    prove(used)
    Output(output).show([_kind(used, kind) for kind in sorted(used.kinds)], "kind", "mark", "custom", "rules")


def _kind(used: Edition, kind: str) -> dict[str, object]:
    rows = [row for row in used.rows if row.kind == kind]
    custom = [row.name for row in used.own if row.kind == kind]
    return {"kind": kind, "mark": mark(kind), "custom": custom, "rules": [row.name for row in rows]}
