"""The reaper: leases that ran out go back to the queue; rows that nobody started in time become missed; numbers of
concurrency keys that nobody uses are passed on; ends that nobody told are told."""

from __future__ import annotations

from engine import db, telemetry
from engine.db import Pool
from engine.metrics import Metrics
from engine.store import concurrency, failures, leases, waits


async def reap(pool: Pool, metrics: Metrics, actor: str = "scheduler") -> None:
    """One round. Any number of schedulers may reap: locked rows are skipped. `actor` is the process, for the audit."""
    log = telemetry.logger("scheduler.reaper")
    async with db.transaction(pool) as conn:
        taken = await leases.reap(conn)
        if taken:
            await db.fetch(conn, "notify_work")
            await leases.archive_checkpoints(conn, [row["run_id"] for row in taken if row["final"]])
    if taken:
        metrics.reaped.inc(len(taken))
        runs = [str(row["run_id"]) for row in taken]
        dead = sum(row["final"] for row in taken)
        log.warning("leases.reaped", count=len(taken), dead=dead, runs=runs[:20])
    ended = {row["task_id"] for row in taken if row["final"]}
    if ended:
        async with db.connection(pool) as conn:
            await failures.pause_failing(conn, ended, actor)
    count, full = 0, True
    while full:  # expired rows lie before good ones, where each lease would look at them
        async with db.transaction(pool) as conn:
            missed = await leases.expire(conn)
        count, full = count + len(missed), len(missed) == leases.EXPIRED_AT_ONCE
    if count:
        log.warning("occurrences.missed", count=count)
    async with db.transaction(pool) as conn:
        woken = await concurrency.sweep(conn) + await waits.tell_forsaken(conn)
    if woken:
        log.warning("waiting.woken", count=woken)
