"""Rotation: the queue's slots take turns, so that drained ones can be truncated whatever pins the horizon.

    empty ──rotate──▶ writing ──rotate──▶ draining ──(all rows gone) truncate──▶ empty

Each step is one short transaction of its own; a scheduler that dies between two leaves a state from which
any other goes on. Lock order: due_work_slot rows, then due_work rows; the truncated partition alone.
"""

from __future__ import annotations

from datetime import timedelta

from engine import db, telemetry
from engine.db import Pool
from engine.store import leases


async def rotate(pool: Pool, interval: timedelta) -> None:
    """One round: rotate if it is time, move what keeps a slot from draining, truncate what is drained."""
    log = telemetry.logger("scheduler.rotation")
    async with db.transaction(pool) as conn:
        writing = await leases.rotate(conn, interval)
    if writing is not None:
        log.debug("slots.rotated", writing=writing)
    async with db.transaction(pool) as conn:
        await leases.promote(conn)
    async with db.transaction(pool) as conn:
        await leases.move_stragglers(conn, interval)
    async with db.transaction(pool) as conn:
        for slot in await leases.truncate_drained(conn):
            log.debug("slot.truncated", slot=slot)
