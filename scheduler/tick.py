"""The tick: due tasks become occurrences in the ledger and rows in the queue, in one transaction.

Invariant: every instant of an active task up to the horizon is in the ledger exactly once when `next_run` has
passed it. The row lock keeps two schedulers off the same task; the ledger's key would stop them anyway.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from engine import catchup, db, telemetry
from engine.catchup import Catchup, Plan
from engine.db import Connection, Row
from engine.durations import parse_duration
from engine.schedule import jitter_offset, tzdata_version
from engine.store import ledger, replanning
from scheduler import sieve
from scheduler.sieve import Planned, ahead

COUNTED_AT_ONCE = 50_000
"""Missed instants that one tick walks to count them; what comes to light beyond that is a range without a count."""
BREATH = 20
"""Tasks that are planned, in some 2 ms, before others on the event loop have a turn."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """What one tick did; `more` says that it took a full batch, so that the next should follow at once."""

    tasks: int
    occurrences: int
    more: bool


@dataclass(frozen=True, slots=True)
class Drawn:
    """Tasks that this transaction holds, each with its plan and its jitter, and not yet written."""

    plans: Sequence[Planned] = ()
    more: bool = False


async def tick(
    conn: Connection, horizon: timedelta, grace: timedelta, batch: int, *, now: datetime | None = None
) -> Ticked:
    """Materialise what is due within the horizon; `conn` is in the tick's one transaction."""
    return await write(conn, await draw(conn, horizon, grace, batch, now=now), now=now)


async def draw(
    conn: Connection,
    horizon: timedelta,
    grace: timedelta,
    batch: int,
    *,
    only: Sequence[UUID] | None = None,
    now: datetime | None = None,
) -> Drawn:
    """Lock what is due within the horizon and plan it: the half of a tick that works here, not in the server.

    `only` are the tasks that are looked at, if not all.
    """
    values = {
        "now": now,
        "horizon": horizon,
        "limit": batch,
        "tzdata_version": tzdata_version(),
        "only": only,
    }
    due = await db.fetch(conn, "lock_due_tasks", values)
    if not due:
        return Drawn()
    await _renew(conn, [row for row in due if replanning.is_stale(row)])
    plans = await _plans(due, horizon, grace)
    behind = any(plan.next_run and plan.next_run <= row["at"] + ahead(row, horizon) for row, plan, _ in plans)
    return Drawn(plans, behind or len(due) == batch)


async def write(conn: Connection, drawn: Drawn, *, now: datetime | None = None) -> Ticked:
    """Write what was drawn in this transaction: ledger, queue, and each task's next instant."""
    plans = drawn.plans
    if not plans:
        return Ticked(0, 0, False)
    await ledger.write_ranges(conn, [(row["id"], one) for row, plan, _ in plans for one in plan.ranges])
    sifted = await sieve.sift(conn, plans)
    fresh = await _insert(conn, sifted.plans, now)
    await sieve.close(conn, sifted)
    coming = [_coming(row, plan) for row, plan, _ in plans]
    await db.execute(conn, "advance_tasks", {"rows": json.dumps(coming), "tzdata_version": tzdata_version()})
    if fresh:
        await db.fetch(conn, "notify_work")
    return Ticked(len(plans), fresh, drawn.more)


async def _renew(conn: Connection, stale: Sequence[Row]) -> None:
    """Older zone data may have named the instants of these tasks; ours says whether they are due."""
    moved = await replanning.replan(conn, stale) if stale else {}
    for row in stale:
        row["next_run"] = moved.get(row["id"], row["next_run"])


async def _plans(due: Sequence[Row], horizon: timedelta, grace: timedelta) -> list[Planned]:
    """Each task with its plan and its jitter. What is walked to count missed instants is bounded for them all."""
    countable, plans = COUNTED_AT_ONCE, []
    for number, row in enumerate(due):
        if number % BREATH == BREATH - 1:
            await asyncio.sleep(0)  # what another tick has to send is sent meanwhile
        plan, jitter = _plan(row, ahead(row, horizon), grace, min(countable, catchup.COUNTED))
        countable -= sum(min(one.count or catchup.COUNTED, countable) for one in plan.ranges)
        plans.append((row, plan, jitter))
    return plans


def _plan(row: Row, horizon: timedelta, grace: timedelta, countable: int) -> tuple[Plan, timedelta]:
    """The plan and its jitter. A stored schedule that cannot be read stops its own task only, loudly."""
    if row["next_run"] is None:  # zone data changed, and what was left of the schedule is over
        return Plan((), (), None), timedelta(0)
    try:
        schedule = ledger.schedule_from(row)
        options = Catchup.of(row["schedule_options"], grace)
        if schedule.kind == "condition":
            options = options.of_probes(parse_duration(schedule.expr))
        if row["dedupe_key"]:
            options = replace(options, apart=row["dedupe_window"] or options.window)
        said = row["schedule_options"].get("jitter")
        jitter = timedelta(0) if said is None else parse_duration(said)
        return catchup.plan(schedule, options, row["next_run"], row["at"], horizon, countable), jitter
    except ledger.UNREADABLE as error:
        log = telemetry.logger("scheduler.tick")
        log.error("task.unschedulable", task_id=str(row["id"]), task=row["name"], error=str(error))
        row["schedule_error"] = f"{type(error).__name__}: {error}"
        return Plan((), (), None), timedelta(0)


async def _insert(conn: Connection, plans: Sequence[Planned], now: datetime | None) -> int:
    """Write the runs of all plans; how many were new."""
    rows = []
    for task, plan, jitter in plans:
        key = str(task["id"])
        for instant, expires_at in plan.runs:
            run_at = at = instant.isoformat()
            if jitter:
                offset = jitter_offset(key, instant, jitter)
                run_at, expires_at = (instant + offset).isoformat(), expires_at + offset
            end = expires_at.isoformat()
            rows.append({"task_id": key, "scheduled_for": at, "run_at": run_at, "expires_at": end})
    if not rows:
        return 0
    made = await db.fetch_one(conn, "insert_occurrences", {"rows": json.dumps(rows), "now": now})
    assert made is not None, "a count always answers"
    return int(made["made"])


def _coming(row: Row, plan: Plan) -> Row:
    """What becomes of a task's row."""
    told: Row = {"task_id": str(row["id"]), "next_run": _text(plan.next_run)}
    return told | {"schedule_error": row["schedule_error"]} if "schedule_error" in row else told


def _text(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant else None
