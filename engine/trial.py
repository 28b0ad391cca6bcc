"""One call of one tool, to try it: through the schemas, the gate and the limits like a step, and without a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from engine import settings as settings_
from engine.errors import Conflict, InputInvalid, LeaseLost
from engine.executor import Attempt
from engine.gate.asking import Ask
from engine.pipeline import parse_definition
from engine.plan import Ports, Run, StepRecord, prepare
from engine.reflex.digests import Pardon
from engine.settings import Settings
from engine.tools.entry import ToolEntry
from engine.tools.registry import Catalog
from engine.tools.toolbox import Toolbox

STEP = "trial"


async def try_tool(
    entry: ToolEntry,
    arguments: Mapping[str, Any],
    toolbox: Toolbox,
    settings: Settings,
    agent_id: UUID | None = None,
    ask: Ask | None = None,
    pardon: Pardon | None = None,
) -> dict[str, Any]:
    """{tool, status, output, error, verdict, duration_ms} of a call with `arguments` as they are: no templates.

    `status`: succeeded, failed, blocked, timed_out, or parked where the tool would let its run wait. Raises
    InputInvalid for arguments that break the input_schema, Conflict for a tool that works within runs only.
    """
    problems = entry.input.check(entry.input.with_defaults(arguments))
    if problems:
        raise InputInvalid(f"the input of {entry.name} is not valid", errors=problems)
    step = {"id": STEP, "uses": entry.name, "with": literal(dict(arguments))}
    members = {"apiVersion": "duework/v1", "kind": "Pipeline", "name": STEP, "schedule": {"manual": True}}
    definition = parse_definition({**members, "steps": [step]})
    plan = prepare(definition, Catalog({entry.name: entry}))
    run = Run(uuid4(), 1, 0, "run_now", datetime.now(UTC), {}, agent_id=agent_id)
    attempt = Attempt(plan, run, replace(_ports(toolbox, settings), ask=ask, pardon=pardon))
    began = datetime.now(UTC)
    try:
        outcome = await attempt.execute()
    except LeaseLost as error:
        raise Conflict(f"{entry.name} works within runs only: put it into a pipeline") from error
    length = datetime.now(UTC) - began
    record = next(iter(attempt.records), None)
    return {
        "tool": entry.name,
        "status": outcome.status,
        "output": record.output if record else None,
        "error": outcome.error,
        "verdict": record.verdict if record else None,
        "duration_ms": round(length.total_seconds() * 1000, 3),
    }


def _ports(toolbox: Toolbox, settings: Settings) -> Ports:
    async def forget(_record: StepRecord) -> None:
        """Nothing outlives this call."""

    return Ports(
        toolbox.call,
        forget,
        lambda: datetime.now(UTC),
        lambda name: settings_.secret(name, settings),
        settings.max_output_bytes,
    )


def literal(value: Any) -> Any:
    """`value` with its `${` written so that it means itself."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, dict):
        return {key: literal(member) for key, member in value.items()}
    return [literal(member) for member in value] if isinstance(value, list) else value
