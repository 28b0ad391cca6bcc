"""Retention: partitions of history made ahead of time, and what outlived its use forgotten."""

from __future__ import annotations

from engine import db
from engine.db import Pool


async def maintain(pool: Pool) -> None:
    """One round: next months' partitions, idempotency keys older than a day, checkpoints that a crash left."""
    async with db.transaction(pool) as conn:
        await db.fetch(conn, "ensure_partitions")
    async with db.transaction(pool) as conn:
        await db.execute(conn, "forget_keys")
        await db.execute(conn, "sweep_checkpoints")
