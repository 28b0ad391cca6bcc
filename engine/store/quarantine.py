"""Quarantine: runs that the gate has blocked, and a person's word on them, given once.

    blocked ──▶ held ──release──▶ queued again, the same run: passes what was released, and nothing else
                  └────refuse──▶ blocked for good

Locks, in this order: the held row, which one decision has, then the task, shared: a definition is the one that ran
for as long as a release is under way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, tuple_

from engine import db, telemetry
from engine.db import Connection, Row
from engine.errors import Conflict, NotFound
from engine.store import runs
from engine.store.tables import held_run, task
from engine.store.views import quarantine_view


async def page(
    conn: Connection,
    *,
    filters: Mapping[str, Any],
    before: tuple[datetime, UUID] | None = None,
    limit: int = 50,
) -> list[Row]:
    """Held attempts as `duework.quarantine` has them, the newest first. `filters`: status, task_id, run_id."""
    columns = quarantine_view.c
    statement = select(quarantine_view).order_by(columns.held_at.desc(), columns.run_id.desc()).limit(limit)
    for name in ("status", "task_id", "run_id"):
        if filters.get(name) is not None:
            statement = statement.where(columns[name] == filters[name])
    if before is not None:
        statement = statement.where(tuple_(columns.held_at, columns.run_id) < tuple_(*before))
    return await db.select(conn, statement)


async def release(
    conn: Connection,
    run_id: UUID,
    by: str,
    reason: str,
    *,
    digests: Sequence[str] | None = None,
    now: datetime | None = None,
) -> list[Row]:
    """Let findings of a blocked run pass, and queue it; those that were released.

    `digests` name them; None: all that the run is held for. `reason` must have passed the gate. Raises NotFound, and
    Conflict where the run is not held, its task has changed, or it is held for other findings.
    """
    held = await _held(conn, run_id, "released")
    await _unchanged(conn, held)
    found = _named(held, digests)
    values = {
        "run_id": run_id,
        "attempt": held["attempt"],
        "by": by,
        "reason": reason,
        "released": sorted({finding["digest"] for finding in found}),
        "now": now,
    }
    if not await db.fetch(conn, "release_held", values):
        raise Conflict(f"run {run_id} is not blocked any more")
    await db.fetch(conn, "notify_work")
    log = telemetry.logger("store.quarantine")
    log.info("run.released", run_id=str(run_id), attempt=held["attempt"], by=by, findings=len(found))
    return found


async def refuse(
    conn: Connection, run_id: UUID, by: str, reason: str, *, now: datetime | None = None
) -> list[Row]:
    """Leave a blocked run as it is, for good; what it was held for.

    Raises NotFound, and Conflict where it is not held.
    """
    held = await _held(conn, run_id, "refused")
    values = {"run_id": run_id, "attempt": held["attempt"], "by": by, "reason": reason, "now": now}
    await db.fetch(conn, "refuse_held", values)
    log = telemetry.logger("store.quarantine")
    log.info("run.refused", run_id=str(run_id), attempt=held["attempt"], by=by)
    findings: list[Row] = held["findings"]
    return findings


async def _held(conn: Connection, run_id: UUID, wanted: str) -> Row:
    """What a run is held for at this moment, locked until the caller's commit."""
    columns = held_run.c
    newest = select(held_run).where(columns.run_id == run_id).order_by(columns.attempt.desc()).limit(1)
    rows = await db.select(conn, newest.with_for_update())
    run = await runs.find(conn, run_id)  # after the lock: who came first has committed
    held = rows[0] if rows else None
    if held is not None and held["decision"] is None and run["status"] == "blocked":
        return held
    if held is not None and held["decision"] is not None:
        raise Conflict(_decided(run, held, wanted))
    if run["status"] != "blocked":
        raise Conflict(f"run {run_id} is {run['status']}; only a blocked run can be {wanted}")
    raise Conflict(
        f"run {run_id} is held for nothing that can be {wanted}: it was blocked before it began, or by a version of "
        "duework that kept nothing of it; mend what the gate found, or allow it in the policy, and run it anew"
    )


def _decided(run: Row, held: Row, wanted: str) -> str:
    told = f"run {run['run_id']} was {held['decision']} by {held['decided_by']} at {held['decided_at'].isoformat()}"
    if held["decision"] == "refused":
        return f"{told}, and that is its end; `duework run retry` runs it anew"
    return f"{told}, and is {run['status']} now: there is nothing to be {wanted}"


async def _unchanged(conn: Connection, held: Row) -> None:
    """Raises Conflict where the task is not the one that ran: what was judged may not be what it says today."""
    statement = select(task).where(task.c.id == held["task_id"]).with_for_update(read=True)
    rows = await db.select(conn, statement)
    if not rows:
        raise NotFound(f"there is no task {held['task_id']} any more")
    name, version = rows[0]["name"], rows[0]["version"]
    if rows[0]["status"] == "canceled":
        raise Conflict(f"task {name!r} is canceled and cannot be run")
    if version != held["task_version"]:
        raise Conflict(
            f"task {name!r} has changed since this run began (version {held['task_version']}, now {version}): "
            "`duework run retry` runs it anew, as it is now"
        )


def _named(held: Row, digests: Sequence[str] | None) -> list[Row]:
    findings: list[Row] = held["findings"]
    if digests is None:
        return findings
    known = {finding["digest"] for finding in findings}
    unknown = sorted(set(digests) - known)
    if unknown:
        raise Conflict(
            f"run {held['run_id']} is not held for {', '.join(unknown)}, but for {', '.join(sorted(known))}: "
            "look again before you release it"
        )
    return [finding for finding in findings if finding["digest"] in digests]
