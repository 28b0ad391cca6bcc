"""Approvals: a person's word on a step that waits for it, given once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from engine import db
from engine.db import Connection, Row
from engine.errors import AuthorizationFailed, Conflict
from engine.store import waits
from engine.store.tables import wait
from engine.store.waits import Place


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person says. `decision`: approve or refuse; `reason` must have passed the gate."""

    decision: str
    by: str
    reason: str
    admin: bool = False


async def decide(
    conn: Connection,
    run_id: UUID,
    given: Decision,
    *,
    step: str | None = None,
    item: int | None = None,
    now: datetime | None = None,
) -> tuple[Row, bool]:
    """Give a step that waits its decision and wake its run; the wait as it was, and whether anything changed.

    The same decision again changes nothing. `step` and `item` may be left out where only one waits. Raises Conflict
    where nothing or more than one waits, or another decision was made, and AuthorizationFailed.
    """
    found = _chosen(run_id, await _asked(conn, run_id, step, item))
    allowed = found["approvers"]
    if allowed is not None and given.by not in allowed and not given.admin:
        raise AuthorizationFailed(
            f"step {found['step']!r} is for {', '.join(allowed)} to decide, not for {given.by}",
            details={"approvers": list(allowed)},
        )
    if found["resolved_at"] is not None:
        return _same(found, given), False
    resolution: dict[str, Any] = {"decision": given.decision, "by": given.by, "reason": given.reason}
    resolution["at"] = (now or await db.clock(conn)).isoformat()
    place = Place(found["run_id"], found["step"], found["item"])
    if await waits.resolve(conn, [place], resolution, given.by, now=now):
        return found, True
    again = await waits.find(conn, place)  # somebody came first, or its time is over
    if again is None or again["resolved_at"] is None:
        raise Conflict(f"step {found['step']!r} waited until {found['deadline']}, and that is over")
    return _same(again, given), False


async def _asked(conn: Connection, run_id: UUID, step: str | None, item: int | None) -> list[Row]:
    columns = wait.c
    statement = select(wait).where(columns.run_id == run_id, columns.kind == "approval")
    if step is not None:
        statement = statement.where(columns.step == step)
    if item is not None:
        statement = statement.where(columns.item == item)
    return await db.select(conn, statement.order_by(columns.created_at, columns.step, columns.item))


def _chosen(run_id: UUID, asked: Sequence[Row]) -> Row:
    """The one that waits; where none does, the one that was decided."""
    waiting = [row for row in asked if row["resolved_at"] is None]
    candidates = waiting or asked
    if not candidates:
        raise Conflict(f"run {run_id} waits for no approval there")
    if len(candidates) > 1:
        named = ", ".join(_named(row) for row in candidates)
        raise Conflict(f"run {run_id} waits for several approvals: say which step (and item): {named}")
    return candidates[0]


def _named(row: Row) -> str:
    return row["step"] if row["item"] < 0 else f"{row['step']} item {row['item']}"


def _same(found: Row, given: Decision) -> Row:
    """What was decided before, if it was the same."""
    earlier = found["resolution"]
    if earlier["decision"] != given.decision:
        told = "approved" if earlier["decision"] == "approve" else "refused"
        raise Conflict(f"step {found['step']!r} was {told} by {earlier['by']} at {earlier['at']}")
    return found
