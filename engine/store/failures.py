"""`pause_after_failures`: tasks that are paused because their runs keep failing, so that somebody looks.

Looked at after runs have ended, never within the transaction that settles them: a pause takes the task's row
first and then the queue's, a settlement only the latter. Whoever looks too late finds the task paused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from engine import db, telemetry
from engine.db import Connection, Row
from engine.store import audit, tasks

UNSUCCESSFUL = frozenset({"failed", "timed_out", "blocked"})
"""Ends that count; a run whose worker died too often (dead) is the reaper's to report."""


async def pause_failing(conn: Connection, task_ids: Iterable[UUID], actor: str) -> list[Row]:
    """Pause those of these tasks whose last runs have failed as often as they allow; rows: task_id, name, reason.

    Each is paused and audited in a transaction of its own, so `conn` must be in none.
    """
    found = await db.fetch(conn, "find_failing_tasks", {"task_ids": list(task_ids)})
    paused = [await _pause(conn, row["task_id"], actor) for row in found]
    return [row for row in paused if row is not None]


async def _pause(conn: Connection, task_id: UUID, actor: str) -> Row | None:
    async with conn.transaction():
        await tasks.get(conn, task_id, lock=True)
        # What was found without the lock is asked again: another may have paused it, or a person resumed it.
        failing = await db.fetch_one(conn, "find_failing_tasks", {"task_ids": [task_id]})
        if failing is None:
            return None
        reason = _reason(failing["failures"], failing["error"] or {})
        await tasks.pause(conn, task_id, await db.clock(conn), reason)
        await audit.write(conn, actor, "task.paused", f"task:{task_id}", name=failing["name"], reason=reason)
    log = telemetry.logger("store.failures")
    log.warning("task.paused", task_id=str(task_id), task=failing["name"], reason=reason)
    return {"task_id": task_id, "name": failing["name"], "reason": reason}


def _reason(failures: int, error: Row) -> str:
    """What people read in the task's status_reason: code and place, never the words of a tool."""
    last: Any = error.get("code", "unknown")
    if error.get("step"):
        last = f"{last} at step {error['step']}"
    count = "a run" if failures == 1 else f"{failures} runs in a row"
    return f"{count} failed, the last: {last}; resume it when it is mended"
