"""What tests are made of: definitions, tasks and runs, with every member optional but the one that matters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import sql

from engine import db
from engine.db import Connection, Row
from engine.pipeline import parse_definition
from engine.plan import StepRecord
from engine.store import leases, runs, tasks
from engine.store.leases import Lease
from tests.polling import poll_until

Steps = Sequence[dict[str, Any]]


def step(name: str, uses: str = "core.echo", /, **members: Any) -> dict[str, Any]:
    """One step of a definition; `with_` and `if_` stand for the keys that Python keeps for itself."""
    return {"id": name, "uses": uses} | {key.rstrip("_"): value for key, value in members.items()}


def document(name: str = "job", steps: Steps | None = None, **members: Any) -> dict[str, Any]:
    """A definition in format v1; manual and with one echo unless told otherwise."""
    given = {"schedule": {"manual": True}, "steps": list(steps or [step("only")])} | members
    return {"apiVersion": "duework/v1", "kind": "Pipeline", "name": name, "title": name, **given}


async def make_task(
    conn: Connection,
    name: str = "job",
    steps: Steps | None = None,
    *,
    now: datetime | None = None,
    **members: Any,
) -> Row:
    """A stored task, defined at `now`."""
    definition = parse_definition(document(name, steps, **members))
    async with conn.transaction():
        return await tasks.create(conn, definition, name, now or await db.clock(conn))


async def queue(conn: Connection, task: Row, trigger: str = "run_now", **members: Any) -> UUID:
    """A queued run of the task; its run_id."""
    row = await runs.enqueue(conn, runs.Request(task["id"], trigger, **members))
    run_id: UUID = row["run_id"]
    return run_id


async def lease_one(conn: Connection, worker: str = "w1", seconds: float = 30) -> Lease:
    """The next lease there is; exactly one must be there."""
    (lease,) = await leases.lease(conn, worker, 1, timedelta(seconds=seconds))
    return lease


def run_row(lease: Lease, status: str = "succeeded", **members: Any) -> Row:
    """The settlement of a lease, in the keys that `leases.settle`, `retry` and `release` take."""
    finished = lease.leased_at + timedelta(milliseconds=5)
    times = {"started_at": lease.leased_at.isoformat(), "finished_at": finished.isoformat()}
    values = {"status": status, "error": None, "output": None, "delay": 0, "state": None}
    return {"id": str(lease.run_id), "fence": lease.fence} | times | values | members


def step_row(lease: Lease, name: str = "only", **members: Any) -> Row:
    """One finished step of a lease, in the keys that `leases.settle` and `retry` take."""
    return {**record(lease, name, **members).as_dict(), "run_id": str(lease.run_id)}


def record(lease: Lease, name: str = "only", **members: Any) -> StepRecord:
    """The record of one finished step."""
    given: dict[str, Any] = {
        "position": 0,
        "step": name,
        "item": None,
        "attempt": lease.attempt,
        "tool": "core.echo",
    }
    ended = {"status": "succeeded", "tries": 1, "started_at": lease.leased_at, "finished_at": lease.leased_at}
    return StepRecord(**given | ended | members)


async def rows(conn: Connection, statement: str, *values: Any) -> list[Row]:
    """All rows of a statement written in a test."""
    return await (await conn.execute(statement.encode(), values or None)).fetchall()


async def one(conn: Connection, statement: str, *values: Any) -> Any:
    """The first column of the only row."""
    (row,) = await rows(conn, statement, *values)
    return next(iter(row.values()))


async def until(conn: Connection, statement: str, *values: Any, timeout: float = 120) -> list[Row]:
    """The rows of a statement as soon as there are any."""
    return await poll_until(lambda: rows(conn, statement, *values), timeout)


async def dump(conn: Connection, *tables: str) -> dict[str, list[Row]]:
    """Every row of the tables, in a stable order: for before and after."""
    found = {}
    for name in tables:
        statement = sql.SQL("SELECT * FROM {} AS t ORDER BY t::text").format(sql.Identifier("duework", name))
        found[name] = await (await conn.execute(statement)).fetchall()
    return found


async def waits(conn: Connection, other: Connection) -> bool:
    """Whether what `other` executes waits for a lock that somebody holds."""
    blocked: bool = await one(conn, "SELECT cardinality(pg_blocking_pids(%s)) > 0", other.info.backend_pid)
    return blocked
