"""The audit log: who did what to what. Written in the transaction of the change it describes, sealed after it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import select

from engine import db
from engine.db import Connection, Row
from engine.store.tables import audit_log


async def write(
    conn: Connection, actor: str, action: str, subject: str, *, request_id: str | None = None, **details: Any
) -> None:
    """Add one line: `action` as noun.verb, `subject` as noun:id; `details` must have passed the gate."""
    values = {"actor": actor, "action": action, "subject": subject, "request_id": request_id}
    await db.execute(conn, "insert_audit", values | {"details": Jsonb(details)})


async def seal(conn: Connection, *, limit: int = 10_000) -> int:
    """Seal committed lines as one batch, chained to the one before; how many. 0 too while somebody else seals."""
    row = await db.fetch_one(conn, "seal_audit", {"limit": limit})
    return int(row["lines"]) if row else 0


async def drop(conn: Connection, older_than: timedelta) -> int:
    """Drop lines of batches sealed longer ago than that, how many; the seals stay, and a line says so.

    It drops some 20,000 at most: call it, each time in a transaction of its own, until there are none.
    """
    row = await db.fetch_one(conn, "drop_audit", {"older_than": older_than})
    return int(row["gone"]) if row else 0


async def faults(conn: Connection) -> list[Row]:
    """[{number, fault}] for each seal that its lines or the seals around it do not fit."""
    return await db.fetch(conn, "list_audit_faults")


async def head(conn: Connection, number: int | None = None) -> Row:
    """{seals, lines, dropped, unsealed, number, digest} of now, and `known`, the digest of seal `number`."""
    row = await db.fetch_one(conn, "find_audit_head", {"number": number})
    assert row is not None, "the statement counts"
    return row


async def page(
    conn: Connection, *, before: int | None = None, subject: str | None = None, limit: int = 50
) -> list[Row]:
    """Newest first; `before` is the id of the last line already seen."""
    statement = select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(audit_log.c.id < before)
    if subject is not None:
        statement = statement.where(audit_log.c.subject == subject)
    return await db.select(conn, statement)
