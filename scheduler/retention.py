"""Retention: months of history made ahead of time and dropped at their age, and what outlived its use forgotten."""

from __future__ import annotations

from datetime import timedelta

from engine import db, telemetry
from engine.db import Pool


async def maintain(pool: Pool, keep: timedelta) -> None:
    """One round: next months' partitions, months older than `keep`, idempotency keys older than a day,
    dedupe keys that hold nothing any more, checkpoints and waits that a crash left."""
    async with db.transaction(pool) as conn:
        await db.fetch(conn, "ensure_partitions")
    async with db.transaction(pool) as conn:
        row = await db.fetch_one(conn, "drop_partitions", {"older_than": keep})
    if row and row["gone"]:
        log = telemetry.logger("scheduler.retention")
        log.info("history.dropped", partitions=row["gone"])
    async with db.transaction(pool) as conn:
        await db.execute(conn, "forget_keys")
        await db.execute(conn, "forget_dedupe_keys")
        await db.execute(conn, "sweep_checkpoints")
        await db.execute(conn, "sweep_waits")
