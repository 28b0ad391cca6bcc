"""Backfill: runs for instants of the past, as the schedule of today names them.

Every backfill has an id, which its runs carry as `parent_run_id`, so that they can be found and ended together.
Callers hold the task's row lock: of two that ask for the same at once, the second finds the work of the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from engine import db
from engine.catchup import TICK
from engine.db import Connection, Row
from engine.errors import Problem, ValidationFailed
from engine.schedule import Schedule
from engine.store import leases, ledger

MOST = 1000
"""Runs of one backfill, at most."""
WALKED = 10_000
"""Instants of one range that are looked at, at most."""
LATER = 2
"""How much lower than its task's the priority of a backfill is: it makes way for what is due now."""
LAST = 9
UNTIMED = ("event", "manual", "condition")


@dataclass(frozen=True, slots=True)
class Found:
    """`instants` are to be queued; `left_out` holds (instant, reason), the reason being succeeded, queued or pending.

    pending: not decided yet. A scheduler that comes to it, late, will run it or write down why not.
    """

    instants: tuple[datetime, ...]
    left_out: tuple[tuple[datetime, str], ...]

    @property
    def total(self) -> int:
        """How many instants the schedule names in the range."""
        return len(self.instants) + len(self.left_out)


async def find(
    conn: Connection, task: Row, start: datetime, until: datetime, most: int, *, rerun: bool
) -> Found:
    """The instants of a task (its row locked) in [start, until), and which of them are not wanted again.

    Raises ValidationFailed for a kind that has none, and for more than `most` to be queued.
    """
    schedule = ledger.schedule_from(task)
    if schedule.kind in UNTIMED:
        detail = (
            f"a schedule of kind {schedule.kind} names no instants of the past; run the task with run_now"
        )
        raise ValidationFailed(detail, errors=[Problem("no_instants", detail)])
    walked = await asyncio.to_thread(_walk, schedule, start, until)
    if len(walked) > WALKED:
        raise _too_many(task, f"more than {WALKED}", most, walked)
    known = {} if rerun else await _known(conn, task, start, until)
    pending = None if rerun else task["next_run"]
    reasons = [(at, known.get(at) or ("pending" if pending and at >= pending else None)) for at in walked]
    instants = [at for at, reason in reasons if reason is None]
    if len(instants) > most:
        raise _too_many(task, str(len(instants)), most, instants)
    return Found(tuple(instants), tuple((at, reason) for at, reason in reasons if reason))


async def cancel(
    conn: Connection, task_id: UUID, backfill_id: UUID | None, reason: str, *, now: datetime | None = None
) -> int:
    """End the runs of a task's backfills (or of one) that nobody has begun; how many there were."""
    return await leases.cancel_unstarted(conn, await live(conn, task_id, backfill_id), reason, now=now)


async def live(conn: Connection, task_id: UUID, backfill_id: UUID | None) -> list[UUID]:
    """The runs of a task's backfills (or of one) that are in the queue, begun or not."""
    values = {"task_id": task_id, "backfill_id": backfill_id}
    return [row["run_id"] for row in await db.fetch(conn, "list_backfill", values)]


def priority(task: Row, given: int | None) -> int:
    """The priority of a task's backfill: what was asked for, else a little lower than the task's own."""
    return min(int(task["priority"]) + LATER, LAST) if given is None else given


def _walk(schedule: Schedule, start: datetime, until: datetime) -> list[datetime]:
    return [at for at in schedule.next(start - TICK, WALKED + 1) if at < until]


async def _known(conn: Connection, task: Row, start: datetime, until: datetime) -> dict[datetime, str]:
    values = {"task_id": task["id"], "start": start, "until": until}
    rows = await db.fetch(conn, "list_covered", values)
    # Of a run again that is under way, what the one before came to matters more.
    rows.sort(key=lambda row: row["reason"] == "succeeded")
    return {row["scheduled_for"]: row["reason"] for row in rows}


def _too_many(task: Row, count: str, most: int, instants: Sequence[datetime]) -> ValidationFailed:
    edge = instants[most].isoformat().replace("+00:00", "Z")
    larger = f"raise max (at most {MOST}), or " if most < MOST else ""
    detail = (
        f"{count} instants of task {task['name']!r} are to be queued and max is {most}: "
        f"{larger}do it in parts; the first {most} end before {edge}"
    )
    return ValidationFailed(detail, errors=[Problem("too_many", detail, "/max")])
