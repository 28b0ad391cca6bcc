"""Verdicts: what the gate said about steps, and what it refused at the door."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID

from engine import db
from engine.db import Connection, Row
from engine.errors import GateBlocked

_view = Table(
    "verdicts",
    MetaData(schema="duework"),
    Column("at", DateTime(timezone=True)),
    Column("run_id", PG_UUID()),
    Column("attempt", Integer),
    Column("step", Text),
    Column("item", Integer),
    Column("tool", Text),
    Column("direction", Text),
    Column("action", Text),
    Column("findings", JSONB),
)


async def page(
    conn: Connection,
    *,
    run_id: UUID | None = None,
    since: datetime | None = None,
    offset: int = 0,
    limit: int = 50,
) -> list[Row]:
    """Verdicts as `duework.verdicts` has them, newest first."""
    columns = _view.c
    statement = select(_view).order_by(columns.at.desc(), columns.run_id, columns.step, columns.direction)
    if run_id is not None:
        statement = statement.where(columns.run_id == run_id)
    if since is not None:
        statement = statement.where(columns.at >= since)
    return await db.select(conn, statement.offset(offset).limit(limit))


async def refuse(conn: Connection, surface: str, refused: GateBlocked, agent_id: UUID | None) -> None:
    """Keep a refusal at the door: kinds and places. `details["task_id"]` names the task, if there is one."""
    details: Mapping[str, Any] = refused.details
    values = {"surface": surface, "task_id": details.get("task_id"), "agent_id": agent_id}
    await db.execute(conn, "insert_refusal", values | {"verdict": Jsonb(details["verdict"])})
