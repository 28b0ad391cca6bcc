"""Retention: months of history made ahead of time and dropped at their age, and what outlived its use forgotten."""

from __future__ import annotations

from engine import db, telemetry
from engine.db import Pool
from engine.settings import Settings
from engine.store import audit


async def maintain(pool: Pool, settings: Settings) -> None:
    """One round: next months' partitions, months older than they are kept, lines of the audit log likewise, what was
    held of forgotten runs, idempotency keys older than a day, dedupe keys that hold nothing any more, checkpoints and
    waits that a crash left."""
    async with db.transaction(pool) as conn:
        await db.fetch(conn, "ensure_partitions")
    async with db.transaction(pool) as conn:
        row = await db.fetch_one(conn, "drop_partitions", {"older_than": settings.retention})
    if row and row["gone"]:
        log = telemetry.logger("scheduler.retention")
        log.info("history.dropped", partitions=row["gone"])
    gone = bool(settings.audit_retention)
    while gone:
        async with db.transaction(pool) as conn:
            gone = await audit.drop(conn, settings.audit_retention) > 0
    async with db.transaction(pool) as conn:
        await db.execute(conn, "forget_held", {"older_than": settings.retention})
        await db.execute(conn, "forget_keys")
        await db.execute(conn, "forget_dedupe_keys")
        await db.execute(conn, "sweep_checkpoints")
        await db.execute(conn, "sweep_waits")
