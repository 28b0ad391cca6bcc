"""Waits: what a parked step waits for, and how the answer wakes its run.

    call ──enter──▶ open ──event, decision, end of a run──▶ resolved ──enter──▶ taken (stays for a repeat)
                     └────────────deadline──────enter─────▶ late: the row is gone

Invariant: whenever nothing is being written, no run is parked beyond now with a resolved wait that it has not taken.
It is held by order. Everybody who makes a wait, answers one or parks a run holds the run's due_work row first, and
reads the waits in a statement that begins after: so an answer finds the run parked and wakes it, or the run that is
just parking finds the answer. A run that is waited for is marked (`linked`) under its own row's lock, taken before
the waiter's; its end deletes that row, sees the mark, and comes for the waiters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import select

from engine import db, telemetry
from engine.db import Connection, Row
from engine.errors import LeaseLost
from engine.store.moves import moving
from engine.store.tables import wait


@dataclass(frozen=True, slots=True)
class Place:
    """A step of a run, and the item of its foreach; -1 without one."""

    run_id: UUID
    step: str
    item: int = -1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a step waits for. `kind`: sleep, event, approval or run; the members of the others are None.

    It ends at `until`, or `timeout` after it began; with neither, never. `given` is what `filter` may compare with.
    """

    kind: str
    timeout: timedelta | None = None
    until: datetime | None = None
    topic: str | None = None
    filter: str | None = None
    given: Mapping[str, Any] | None = None
    prompt: str | None = None
    approvers: Sequence[str] | None = None
    child_run_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait as it stands. `left` is the time until its deadline, None without one; `resolution` the answer.

    `late`: the deadline has passed without one.
    """

    created_at: datetime
    age: timedelta
    left: timedelta | None
    resolution: Mapping[str, Any] | None
    late: bool


async def enter(
    conn: Connection, place: Place, fence: int, wanted: Wanted, *, now: datetime | None = None
) -> Wait:
    """Begin a wait, or look at it again. Raises LeaseLost."""
    values: Row = {name: getattr(wanted, name) for name in Wanted.__slots__}
    values |= {"run_id": place.run_id, "step": place.step, "item": place.item, "fence": fence, "now": now}
    values["given"] = None if wanted.given is None else Jsonb(wanted.given)
    values["approvers"] = None if wanted.approvers is None else list(wanted.approvers)
    rows = await moving(conn, "enter_wait", values)
    if not rows:
        raise LeaseLost(f"run {place.run_id} is no longer held under fence {fence}")
    (row,) = rows
    age = row["at"] - row["created_at"]
    left = row["deadline"] and row["deadline"] - row["at"]
    return Wait(row["created_at"], age, left, row["resolution"], row["late"])


async def find(conn: Connection, place: Place) -> Row | None:
    """The row of a wait; None before it has begun, and once it was late."""
    columns = wait.c
    statement = select(wait).where(
        columns.run_id == place.run_id, columns.step == place.step, columns.item == place.item
    )
    rows = await db.select(conn, statement)
    return rows[0] if rows else None


async def pending(conn: Connection, run_id: UUID) -> list[Row]:
    """What a live run waits for, the oldest first; what has an answer, was late, or was slept is not in it."""
    columns = wait.c
    statement = select(wait).where(columns.run_id == run_id, columns.resolved_at.is_(None))
    statement = statement.where(columns.taken_at.is_(None))
    return await db.select(conn, statement.order_by(columns.created_at, columns.step, columns.item))


async def counts(conn: Connection) -> dict[str, int]:
    """How many steps wait at this moment, by kind."""
    return {row["kind"]: row["count"] for row in await db.fetch(conn, "count_waits")}


async def listening(conn: Connection, topic: str, *, now: datetime | None = None) -> list[Row]:
    """The waits that an event may answer: run_id, step, item, topic, filter, given."""
    return await db.fetch(conn, "list_listening", {"topic": topic, "now": now})


async def watch(conn: Connection, run_id: UUID) -> bool:
    """Mark a run as waited for, in the transaction that begins the wait and before it; False once it has ended."""
    return bool(await moving(conn, "watch_run", {"run_id": run_id}))


async def resolve(
    conn: Connection,
    places: Iterable[Place],
    resolution: Mapping[str, Any],
    by: str,
    *,
    now: datetime | None = None,
) -> list[Place]:
    """Answer waits and wake their runs, in the caller's transaction; those that had no answer and time left."""
    wanted = list(places)
    if not wanted:
        return []
    run_ids = list({place.run_id for place in wanted})
    await moving(conn, "lock_runs", {"run_ids": run_ids})
    values = {
        "run_ids": [place.run_id for place in wanted],
        "steps": [place.step for place in wanted],
        "items": [place.item for place in wanted],
        "resolution": Jsonb(resolution),
        "by": by,
        "now": now,
    }
    rows = await moving(conn, "resolve_waits", values)
    answered = [Place(row["run_id"], row["step"], row["item"]) for row in rows]
    await _woken(conn, [place.run_id for place in answered], by, now)
    return answered


async def ended(conn: Connection, gone: Iterable[Row], *, now: datetime | None = None) -> None:
    """Tell those who wait for runs that have ended, and drop what these waited for themselves.

    `gone`: rows with run_id and linked, as the statements that delete rows of the queue answer them. To be called
    in the transaction that deleted them, once their history is written, and before numbers under concurrency keys
    are freed: rows of the queue are locked first.
    """
    run_ids = [row["run_id"] for row in gone if row["linked"]]
    if not run_ids:
        return
    await moving(conn, "lock_awaiting", {"run_ids": run_ids})
    rows = await moving(conn, "resolve_ended", {"run_ids": run_ids, "now": now})
    await _woken(conn, [row["run_id"] for row in rows], "run", now)


async def tell_forsaken(conn: Connection, *, now: datetime | None = None) -> int:
    """Tell those who wait for runs that have ended without telling; how many such ends there were."""
    gone = await db.fetch(conn, "list_forsaken")
    await ended(conn, gone, now=now)
    return len(gone)


async def wake(conn: Connection, run_ids: Sequence[UUID], *, now: datetime | None = None) -> int:
    """Let parked runs go on for which an answer lies there; how many. The caller holds their rows."""
    if not run_ids:
        return 0
    woken = len(await moving(conn, "wake_parked", {"run_ids": list(run_ids), "now": now}))
    if woken:
        await db.fetch(conn, "notify_work")
    return woken


async def _woken(conn: Connection, run_ids: Sequence[UUID], by: str, now: datetime | None) -> None:
    if not run_ids:
        return
    await wake(conn, run_ids, now=now)
    log = telemetry.logger("store.waits")
    log.info("waits.resolved", count=len(run_ids), by=by, runs=[str(run_id) for run_id in run_ids[:20]])
