"""What readiness asks of the database: that it answers, and at which revision its schema is."""

from __future__ import annotations

from psycopg.errors import InvalidSchemaName, UndefinedTable
from sqlalchemy import Column, MetaData, Table, Text, select

from engine import db
from engine.db import Connection

_version = Table("alembic_version", MetaData(schema="duework"), Column("version_num", Text))


async def revision(conn: Connection) -> str | None:
    """The migration the database is at; None when it was never migrated (and the transaction is then over)."""
    try:
        rows = await db.select(conn, select(_version))
    except (UndefinedTable, InvalidSchemaName):
        return None
    return str(rows[0]["version_num"]) if rows else None
