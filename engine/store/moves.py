"""Statements on rows of the queue that somebody may move to another slot at this moment.

SQLSTATE 40001 means that a row moved under the statement; the same statement with the same fence is tried again.
"""

from __future__ import annotations

from psycopg import pq
from psycopg.errors import DeadlockDetected, SerializationFailure

from engine import db
from engine.db import Connection, Row

_MOVES = 5


async def moving(conn: Connection, name: str, values: Row) -> list[Row]:
    """Run one fenced statement, again when its row was moved to another slot under it, or it met a deadlock."""
    nested = conn.info.transaction_status is pq.TransactionStatus.INTRANS
    for left in reversed(range(_MOVES)):
        try:
            if not nested:
                return await db.fetch(conn, name, values)
            async with conn.transaction():  # a savepoint: without it the caller's transaction would be lost
                return await db.fetch(conn, name, values)
        except (SerializationFailure, DeadlockDetected):
            if not left:
                raise
    raise AssertionError("unreachable")
