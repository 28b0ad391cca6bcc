"""Retention: partitions of history made ahead of time, and what has a fixed age forgotten."""

from __future__ import annotations

from engine import db
from engine.db import Pool


async def maintain(pool: Pool) -> None:
    """One round: next months' partitions, and idempotency keys older than a day."""
    async with db.transaction(pool) as conn:
        await db.fetch(conn, "ensure_partitions")
    async with db.transaction(pool) as conn:
        await db.execute(conn, "forget_keys")
