"""The audit log: who did what to what. Written in the transaction of the change it describes."""

from __future__ import annotations

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
