"""A back-test: what is stored of past steps, judged again by other patterns or another policy.

Values that were blocked are stored nowhere and cannot be judged again, and of what was redacted only the marks are
left: the answer is about what passed. It is compared with what the gate as it is here says of the same values; without
a candidate, the gate as it is here is the candidate and is compared with what it said at the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from engine import db, reflex
from engine.db import Connection, Row
from engine.errors import NotFound
from engine.pipeline import Definition, Step, parse_definition
from engine.reflex import Policy
from engine.reflex.allowing import Allowed
from engine.reflex.comparing import Findings, Sum, places, redacted_before
from engine.reflex.digests import Match
from engine.reflex.edition import Edition, judged_by
from engine.settings import Settings
from engine.store import allowances, gate_key, stored_steps, tasks
from engine.tools.entry import ToolEntry
from engine.tools.registry import Catalog, load_catalog


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is tried out: rows, members of a policy that take the place of each step's own, or both, or neither."""

    edition: Edition | None = None
    members: Mapping[str, Any] = field(default_factory=dict)

    @property
    def given(self) -> bool:
        """Whether there is anything to try out."""
        return self.edition is not None or bool(self.members)


@dataclass(slots=True)
class Report:
    """What came of it. `blocked` are steps of which a value was refused, and so is not stored."""

    since: datetime
    candidate: bool
    runs: int = 0
    blocked: int = 0
    found: Sum = field(default_factory=Sum)

    @property
    def differs(self) -> bool:
        """Whether anything would be done otherwise."""
        return bool(self.found.changes)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form: counts, names, pointers; no values."""
        values = sorted(self.found.values.items())
        return {
            "since": self.since.isoformat(),
            "compared_with": "the gate as it is" if self.candidate else "what was decided then",
            "runs": self.runs,
            "values": sum(self.found.values.values()),
            "blocked_steps_not_judged": self.blocked,
            "values_changed": [
                {"before": before, "after": after, "values": count}
                for (before, after), count in values
                if before != after
            ],
            "changes": self.found.rows(),
        }


async def backtest(
    settings: Settings, candidate: Candidate, since: datetime | timedelta, task: str | None = None
) -> Report:
    """Judge again what is stored of steps of runs that ended since then, of one task or of all.

    Raises NotFound for an unknown task, ValidationFailed for a stored definition that cannot be read here.
    """
    async with await db.connect(settings.database_url, "backtest") as conn:
        task_id = (await tasks.get(conn, task))["id"] if task else None
        start = since if isinstance(since, datetime) else await db.clock(conn) - since
        allowed = Allowed(await allowances.standing(conn, 0.0), await gate_key.load(conn, settings))
        bench = Bench(candidate, load_catalog(settings), allowed)
        report = Report(start, candidate.given)
        # Definitions are read on a second connection: the first is in the midst of a cursor.
        async with await db.connect(settings.database_url, "backtest") as other:
            await other.set_read_only(True)
            await _walk(conn, other, bench, report, task_id)
    return report


async def _walk(
    conn: Connection, other: Connection, bench: Bench, report: Report, task_id: UUID | None
) -> None:
    last: UUID | None = None
    async for row in stored_steps.walk(conn, report.since, task_id=task_id):
        report.runs += row["run_id"] != last
        last = row["run_id"]
        if row["step"] is None:
            continue
        report.blocked += row["status"] == "blocked"
        policy = await bench.policy(other, row)
        for direction in ("input", "output"):
            if row[direction] is not None:
                before, after = bench.compare(row, direction, policy)
                where = row["task"] or str(row["task_id"]), row["step"], direction
                report.found.add(where, str(row["run_id"]), before, after)


class Bench:
    """What values are judged by: the policies of the steps that were run, as definitions and catalog have them now."""

    def __init__(self, candidate: Candidate, catalog: Catalog, allowed: Allowed) -> None:
        self.candidate = candidate
        self.catalog = catalog
        self.allowed = allowed
        self._policies: dict[tuple[UUID, int], dict[str, Policy]] = {}

    async def policy(self, conn: Connection, row: Row) -> Policy:
        """The policy of the step of a row, in the version of its task that was run."""
        key = row["task_id"], row["task_version"]
        if key not in self._policies:
            self._policies[key] = self._read(parse_definition(await tasks.definition(conn, *key)))
        known = self._policies[key]
        return known.get(row["step"], known[""])

    def compare(self, row: Row, direction: str, policy: Policy) -> tuple[Findings, Findings]:
        """What is found in one value before and after."""
        value, task = row[direction], row["task_id"]
        if self.candidate.given:
            before = self._judged(value, policy, direction, task)
        else:
            told = ((row["verdict"] or {}).get(direction) or {}).get("findings", ())
            before = places(each for each in told if each["action"] == "flag")
        tried = replace(policy, **self.candidate.members)
        with judged_by(self.candidate.edition) if self.candidate.edition else nullcontext():
            return before, self._judged(value, tried, direction, task)

    def _judged(self, value: Any, policy: Policy, direction: str, task: UUID) -> Findings:
        if direction not in policy.on:
            return {}
        verdict = reflex.judge(value, policy, pardoned=partial(self._pardoned, task))
        return places(verdict.as_dict()["findings"])

    def _pardoned(self, task: UUID, match: Match) -> bool:
        return redacted_before(match) or self.allowed.pardons(match, task, 0.0)

    def _read(self, definition: Definition) -> dict[str, Policy]:
        """Policies by step; "" is that of the task alone."""
        probe = (definition.probe.step,) if definition.probe else ()
        steps = (*probe, *definition.steps, *definition.on_failure)
        policies = {step.id: self._of_step(definition, step) for step in steps}
        return {"": reflex.strictest(definition.reflex)} | policies

    def _of_step(self, definition: Definition, step: Step) -> Policy:
        entry = self._entry(step.uses)
        return reflex.strictest(definition.reflex, entry.reflex if entry else {}, step.reflex)

    def _entry(self, uses: str) -> ToolEntry | None:
        """None for a tool that the catalog has no more."""
        try:
            return self.catalog.get(uses)
        except NotFound:
            return None
