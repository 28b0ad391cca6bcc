"""The sealer of the audit log: chains committed lines by hash, a batch at a time; one works, whoever else tries."""

from __future__ import annotations

from engine import db
from engine.db import Pool
from engine.store import audit

BATCH = 10_000
"""Lines in one seal at most: what has to be read again to verify one line of it."""


async def seal(pool: Pool) -> None:
    """One round: everything that has been committed until now."""
    while True:
        async with db.transaction(pool) as conn:
            if await audit.seal(conn, limit=BATCH) < BATCH:
                return
