"""Leased work: the only module that writes to rows somebody holds, every write fenced.

    queued ──lease──▶ running ──settle──▶ (gone; task_run final)
      ▲                 │ ├─retry / release (park, drain)──▶ queued, new fence
      └──────reap───────┘ └─lease ran out: reap ──▶ queued, or ended as dead

A statement that touches no row means that the fence is stale: the caller gives the run up. SQLSTATE 40001
means that the row moved to another slot meanwhile; the same statement with the same fence is tried again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from engine import db
from engine.db import Connection, Row
from engine.store import concurrency, waits
from engine.store.concurrency import Refused
from engine.store.moves import moving

CRASHES_FORGIVEN = 2
"""Leases a run may lose to dying workers on top of its own max_attempts before it is dead-lettered."""
EXPIRED_AT_ONCE = 1000
"""Rows that one statement turns into missed occurrences."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to one run until it is settled, lost or given back. `leased_at` is database time.

    `leased_before`: somebody held the run already, whatever `attempt` says, so it may have checkpoints.
    """

    run_id: UUID
    fence: int
    attempt: int
    task_id: UUID
    task_version: int
    trigger: str
    scheduled_for: datetime | None
    run_at: datetime
    leased_at: datetime
    params: dict[str, Any] | None
    event: dict[str, Any] | None
    state: dict[str, Any] | None
    leased_before: bool
    created_by: UUID | None
    concurrency_key: str | None


async def lease(
    conn: Connection, worker: str, limit: int, duration: timedelta, *, now: datetime | None = None
) -> list[Lease]:
    """Take up to `limit` due runs for `worker`, in order of priority and age; turn away what has to wait."""
    taken, refused = await take(conn, worker, limit, duration, now=now)
    await turn_away(conn, refused, now=now)
    return taken


async def take(
    conn: Connection,
    worker: str,
    limit: int,
    duration: timedelta,
    *,
    ahead: timedelta = timedelta(0),
    now: datetime | None = None,
) -> tuple[list[Lease], list[Refused]]:
    """The leases, and the due rows whose concurrency key had no free number: they are to be turned away.

    What is due within `ahead` is leased too; the caller starts none of it before its `run_at`.
    """
    values = {"worker": worker, "limit": limit, "lease": duration, "ahead": ahead, "now": now}
    rows = await moving(conn, "lease_due_work", values)
    rows.sort(key=lambda row: (row["priority"], row["run_at"]))  # an UPDATE returns them as it comes to them
    taken = [Lease(**{name: row[name] for name in Lease.__slots__}) for row in rows if not row["refused"]]
    return taken, [_refused(row) for row in rows if row["refused"]]


async def turn_away(conn: Connection, refused: Sequence[Refused], *, now: datetime | None = None) -> int:
    """Make due rows wait for their concurrency key, or end them, as each of them says; how many there were.

    A row that came to replace others waits only once enough of them were told, each in a transaction of its own:
    if this process dies in between, or more arrive, it is still there to ask again. No number is locked
    meanwhile, so a run that is ending at this moment is waited for and cannot wait for us.
    """
    if not refused:
        return 0
    gone, told = await concurrency.turn_away(conn, refused, now=now)
    for holder, newcomer in told.items():
        async with conn.transaction():
            await cancel(conn, holder, f"replaced by run {newcomer}", now=now)
    return gone + (await concurrency.turn_away(conn, refused, now=now))[0] if told else gone


def _refused(row: Row) -> Refused:
    return Refused(row["run_id"], row["concurrency_key"], row["concurrency_limit"], row["on_conflict"])


async def next_due(conn: Connection, *, now: datetime | None = None) -> timedelta | None:
    """How long until a row may be leased; zero or less: now; None: nothing waits."""
    row = await db.fetch_one(conn, "next_due_work", {"now": now})
    return row["wait"] if row else None


@dataclass(frozen=True, slots=True)
class Renewal:
    """A lease that is still ours. Not `renewed`: the row was locked, and the old end stands."""

    renewed: bool
    cancel_reason: str | None


async def renew(
    conn: Connection, held: Sequence[tuple[UUID, int]], duration: timedelta, *, now: datetime | None = None
) -> dict[UUID, Renewal]:
    """Prolong leases; those that are missing from the answer are lost."""
    # Every batch locks its rows in the order of their ids, so that two cannot block each other.
    held = sorted(held)
    values = {"run_ids": [r for r, _ in held], "fences": [f for _, f in held], "lease": duration, "now": now}
    rows = await moving(conn, "renew_leases", values)
    return {row["run_id"]: Renewal(row["renewed"], row["cancel_reason"]) for row in rows}


async def settle(conn: Connection, runs: Sequence[Row], steps: Sequence[Row]) -> set[UUID]:
    """End runs with their steps; the answer holds those whose fence was good.

    Rows are JSON objects with the members that the query names; times in ISO 8601. A transaction is needed only
    if one of them has a concurrency key.
    """
    rows = await _written(conn, "settle_runs", _with_steps(runs, steps), {"now": None})
    await concurrency.free(conn, rows)
    return {row["run_id"] for row in rows}


async def hold(conn: Connection, runs: Sequence[Row]) -> None:
    """Keep what blocked runs need for a release: {id, fence, held_at, findings, records, state}.

    To be called in the transaction that then settles them; a stale fence keeps nothing.
    """
    await moving(conn, "hold_runs", {"runs": _json(runs)})


async def retry(
    conn: Connection, runs: Sequence[Row], steps: Sequence[Row], *, now: datetime | None = None
) -> set[UUID]:
    """Put failed runs back after their `delay` (seconds), with the failed attempt in history."""
    return await _put_back(conn, "retry_runs", _with_steps(runs, steps), {"now": now})


async def release(conn: Connection, runs: Sequence[Row], *, now: datetime | None = None) -> set[UUID]:
    """Give leases back without using the attempt up: {id, fence, delay (seconds), state}."""
    return await _put_back(conn, "release_runs", runs, {"now": now})


async def _put_back(conn: Connection, name: str, runs: Sequence[Row], values: Row) -> set[UUID]:
    """Run a statement that ends a run instead where its cancellation was promised; those whose fence was good."""
    rows = await _written(conn, name, runs, values)
    canceled = [row for row in rows if row["canceled"]]
    if canceled:
        await archive_checkpoints(conn, [row["run_id"] for row in canceled])
        await concurrency.free(conn, canceled, now=values["now"])
    return {row["run_id"] for row in rows}


async def _written(conn: Connection, name: str, runs: Sequence[Row], values: Row) -> list[Row]:
    """Run a fenced statement over a batch: at once for what no wait is about, then, if any are left, for the others.

    Only those need a transaction: it tells who waits for a run that has ended, and wakes the parked whose answer
    came before they had parked.
    """
    rows = await moving(conn, name, values | {"runs": _json(runs), "linked": False})
    known = {str(row["run_id"]) for row in rows}
    left = [run for run in runs if str(run["id"]) not in known]
    if not left:
        return rows
    async with conn.transaction():
        others = await moving(conn, name, values | {"runs": _json(left), "linked": True})
        await waits.ended(conn, [row for row in others if row.get("canceled", True)], now=values["now"])
        await waits.wake(conn, [row["run_id"] for row in others if row["linked"]], now=values["now"])
    return rows + others


async def checkpoint(conn: Connection, run_id: UUID, fence: int, step: str, item: int, record: Row) -> bool:
    """Keep one finished step; False when the lease is lost."""
    values = {"run_id": run_id, "fence": fence, "step": step, "item": item, "record": Jsonb(record)}
    return bool(await moving(conn, "write_checkpoint", values))


async def remember(conn: Connection, run_id: UUID, fence: int, state: Row) -> bool:
    """Keep what is left to do, should the lease be lost from now on; False when it is lost already."""
    return bool(await moving(conn, "write_state", {"run_id": run_id, "fence": fence, "state": Jsonb(state)}))


async def decide(
    conn: Connection, run_id: UUID, fence: int, step: str, record: Row, *, met: bool
) -> str | None:
    """Say what follows from a condition's probe; None when the lease is lost.

    `fired`: the pipeline, and the record is kept as its first step. Else the run is over, and its instant skipped:
    `false`, `still_true`, or `superseded` by a later probe or a change of the task.
    """
    values = {"run_id": run_id, "fence": fence, "step": step, "record": Jsonb(record), "met": met}
    rows = await moving(conn, "decide_condition", values)
    await waits.ended(conn, rows)
    await concurrency.free(conn, rows)
    return rows[0]["decision"] if rows else None


async def checkpoints(conn: Connection, run_ids: Sequence[UUID]) -> dict[UUID, list[Row]]:
    """Finished steps of live runs, in pipeline order."""
    found: dict[UUID, list[Row]] = {run_id: [] for run_id in run_ids}
    for row in await db.fetch(conn, "list_checkpoints", {"run_ids": list(run_ids)}):
        found[row["run_id"]].append(row["record"])
    return found


async def forget_checkpoints(conn: Connection, run_ids: Sequence[UUID]) -> int:
    """Drop the checkpoints of settled runs, whose steps are in history."""
    return await db.execute(conn, "delete_checkpoints", {"run_ids": list(run_ids)})


async def archive_checkpoints(conn: Connection, run_ids: Sequence[UUID]) -> int:
    """Turn the checkpoints of runs that ended without their worker into history."""
    return await db.execute(conn, "archive_checkpoints", {"run_ids": list(run_ids)})


async def reap(conn: Connection, *, limit: int = 500, now: datetime | None = None) -> list[Row]:
    """Take expired leases back; rows: run_id, final, worker, attempt, task_id, trigger."""
    rows = await moving(conn, "reap_leases", {"limit": limit, "grace": CRASHES_FORGIVEN, "now": now})
    await waits.ended(conn, (row for row in rows if row["final"]), now=now)
    await concurrency.free(conn, (row for row in rows if row["final"]), now=now)
    return rows


async def expire(conn: Connection, *, limit: int = EXPIRED_AT_ONCE, now: datetime | None = None) -> list[Row]:
    """Turn rows that nobody started in time into missed occurrences."""
    rows = await moving(conn, "expire_due_work", {"limit": limit, "now": now})
    await waits.ended(conn, rows, now=now)
    await concurrency.free(conn, rows, now=now)
    return rows


async def withdraw(conn: Connection, task_id: UUID, *, now: datetime | None = None) -> int:
    """Take back a task's unstarted future rows and their occurrences; how many there were."""
    rows = await moving(conn, "withdraw_due_work", {"task_id": task_id, "now": now})
    await waits.ended(conn, rows, now=now)
    await concurrency.free(conn, rows, now=now)
    return len(rows)


async def cancel(conn: Connection, run_id: UUID, reason: str, *, now: datetime | None = None) -> str | None:
    """'canceled' when the run ended here, 'canceling' when its worker was told, None when it is not live."""
    found = await moving(conn, "cancel_run", {"run_id": run_id, "reason": reason, "now": now})
    if not found:
        return None
    if found[0]["leased"]:
        await db.fetch(conn, "notify_cancel", {"run_id": run_id})
        return "canceling"
    await archive_checkpoints(conn, [run_id])
    await waits.ended(conn, found, now=now)
    await concurrency.free(conn, found, now=now)
    return "canceled"


async def cancel_unstarted(
    conn: Connection, run_ids: Sequence[UUID], reason: str, *, now: datetime | None = None
) -> int:
    """End those of the runs that nobody has begun; how many there were. A run that was ever leased is left alone."""
    rows = await moving(conn, "cancel_unstarted", {"run_ids": list(run_ids), "reason": reason, "now": now})
    await waits.ended(conn, rows, now=now)
    await concurrency.free(conn, rows, now=now)
    return len(rows)


async def promote(conn: Connection, *, limit: int = 1000, now: datetime | None = None) -> int:
    """Bring far-future rows that are due soon into the writing slot."""
    return len(await moving(conn, "promote_due_work", {"limit": limit, "now": now}))


async def rotate(conn: Connection, older_than: timedelta) -> int | None:
    """Make an empty slot the writing one, if the current one is old enough; the new slot's number."""
    row = await db.fetch_one(conn, "rotate_slots", {"older_than": older_than})
    return row["writing"] if row else None


async def truncate_drained(conn: Connection) -> list[int]:
    """Free the storage of drained slots; the slots that were emptied."""
    return [row["slot"] for row in await db.fetch(conn, "truncate_slots") if row["done"]]


async def move_stragglers(conn: Connection, older_than: timedelta, *, limit: int = 1000) -> int:
    """Move what keeps a draining slot from being empty."""
    return len(await moving(conn, "move_stragglers", {"older_than": older_than, "limit": limit}))


def _with_steps(runs: Sequence[Row], steps: Iterable[Row]) -> list[Row]:
    """Each run with the list of its steps, which name it as `run_id`."""
    found: dict[str, list[Row]] = {run["id"]: [] for run in runs}
    for step in steps:
        found[step["run_id"]].append(step)
    return [{**run, "steps": found[run["id"]]} for run in runs]


def _json(runs: Sequence[Row]) -> str:
    return json.dumps(sorted(runs, key=lambda run: str(run["id"])))
