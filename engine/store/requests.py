"""Requests: what applications ask for by SQL, until a worker has checked it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from engine import db
from engine.db import Connection
from engine.errors import DueworkError


@dataclass(frozen=True, slots=True)
class Asked:
    """One request; `content` (parameters or payload, as JSON text) and `reason` have not passed the gate.

    `id` is the run's or the event's. `kind` is run_now (task_id, run_at, priority), publish (topic, source,
    external_id) or cancel (run_id, reason).
    """

    number: int
    id: UUID
    kind: str
    actor: str
    task_id: UUID | None
    run_at: datetime | None
    priority: int | None
    run_id: UUID | None
    topic: str | None
    source: str | None
    external_id: str | None
    reason: str | None
    content: str | None


async def take(conn: Connection, *, first: int = 0, limit: int = 100) -> list[Asked]:
    """The next requests with numbers from `first` on, in their order; nobody else takes them in this transaction."""
    return [Asked(**row) for row in await db.fetch(conn, "take_requests", {"first": first, "limit": limit})]


async def remove(conn: Connection, number: int) -> None:
    """Erase a request that was taken: it is answered in the same transaction."""
    await db.execute(conn, "delete_request", {"number": number})


async def withdraw(conn: Connection, run_id: UUID) -> UUID | None:
    """Take back a run that was asked for; its task's id, or None when no request for it is left."""
    row = await db.fetch_one(conn, "withdraw_request", {"run_id": run_id})
    return row["task_id"] if row else None


async def end(
    conn: Connection,
    run_id: UUID,
    task_id: UUID,
    status: str,
    error: dict[str, Any],
) -> None:
    """Write the end of a run that was never begun; `error` has passed the gate."""
    values = {"run_id": run_id, "task_id": task_id, "status": status, "error": Jsonb(error)}
    await db.execute(conn, "end_request", values)


def ended_by(error: DueworkError) -> str:
    """The status of a run that `error` kept from beginning."""
    return "blocked" if error.code == "gate_blocked" else "failed"
