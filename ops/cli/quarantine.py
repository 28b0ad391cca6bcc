"""`duework quarantine list` and `duework run release|refuse`: what the gate has blocked, and a person's word on it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from engine.errors import Conflict
from ops.cli.output import confirm, say
from ops.cli.remote import Remote, path, remote
from ops.cli.runs import COLUMNS, RunId
from ops.cli.tasks import Limit, Yes

HELD = ("run_id", "task", "attempt", "status", "held_at", "what", "decided_by", "reason")

Why = Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit log.")]


@remote
def list_held(
    api: Remote,
    status: Annotated[str, typer.Option("--status", help="held, released, refused or all.")] = "held",
    task: Annotated[str | None, typer.Option("--task", help="Only of this task: name or id.")] = None,
    limit: Limit = 50,
) -> None:
    """List the runs that the gate has blocked and nobody has decided about, the latest first."""
    task_id = None if task is None else api.get(path("tasks", task))["id"]
    rows = api.pages("/quarantine", limit, status=status, task_id=task_id)
    api.show([row | {"what": "; ".join(described(each) for each in row["findings"])} for row in rows], *HELD)


@remote
def release(
    api: Remote,
    run_id: RunId,
    reason: Why,
    finding: Annotated[
        list[str] | None, typer.Option("--finding", help="Only this one, by its digest; may be repeated.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Let a blocked run go on: what the gate named passes, in this run and at its place only. It is shown first."""
    findings = _held(api, run_id)
    chosen = [each for each in findings if finding is None or each["digest"] in finding]
    digests = finding or sorted({each["digest"] for each in findings})
    if chosen:
        say(f"run {run_id} is held for")
    for each in chosen:
        say(f"  {each['digest']}  {described(each)}")
    confirm("Let this pass, and go on with the run?", yes)
    api.show(api.post(path("runs", run_id, "release"), {"reason": reason, "findings": digests}), *COLUMNS)
    say(f"`duework run watch {run_id}` follows it; what else the gate finds holds it again")


@remote
def refuse(api: Remote, run_id: RunId, reason: Why) -> None:
    """Leave a blocked run blocked for good."""
    api.show(api.post(path("runs", run_id, "refuse"), {"reason": reason}), *COLUMNS)


def described(finding: dict[str, Any]) -> str:
    """A finding in words: `ssn (*** by pii.ssn) in the output of step fetch at /body/note`."""
    step, direction = finding["step"], finding["direction"]
    where = "the run's own output" if step is None else f"the {direction} of step {step}"
    if finding["item"] is not None:
        where += f", item {finding['item']}"
    what = finding.get("kind") or finding["family"]
    shown = f"{finding['masked']} by {finding['rule']}" if finding.get("masked") else f"by {finding['rule']}"
    return f"{what} ({shown}) in {where} at {finding['pointer'] or 'the whole value'}"


def _held(api: Remote, run_id: str) -> list[dict[str, Any]]:
    """What is named to the server is what was shown here: if it has changed meanwhile, nothing is released."""
    rows = api.get("/quarantine", run_id=run_id)["items"]
    if rows:
        return list(rows[0]["findings"])
    run = api.get(path("runs", run_id))
    refused = [each for each in run["quarantine"] if each["status"] == "refused"]
    if refused:
        who, when = refused[-1]["decided_by"], refused[-1]["decided_at"]
        raise Conflict(
            f"run {run_id} was refused by {who} at {when}, for good; `duework run retry` runs it anew"
        )
    raise Conflict(f"run {run_id} is {run['status']} and not held: there is nothing to release")
