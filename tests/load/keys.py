"""What concurrency keys cost: those who have none, those who have one, and those behind a key that is taken.

    python -m tests.load.keys [--jobs 20000] [--waiting 100000] [--rounds 3]

A loop leases and settles batches with nothing in between, as in `drain`; CPU is that of PostgreSQL and of the
loop together. `wait` means rows laid aside before the measurement, `arrive` rows that are due and older than the
jobs, so that the loop has to turn them away first. In the last lines every job has a key. Beside that, what the
lease of rows without a key pays for keys being there.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

import migrations
from engine import db
from engine.pipeline import parse_definition
from engine.store import leases, tasks
from tests import postgres
from tests.load.drain import BATCH, PIPELINE, Measured, measure_loop, server, show

ROWS = (
    "INSERT INTO due_work (slot, waiting, task_id, task_version, trigger, run_at, params, concurrency_key, "
    "concurrency_limit, on_conflict) SELECT CASE WHEN %(waiting)s THEN -1 ELSE 0 END, %(waiting)s, id, 1, 'run_now', "
    "now() - %(age)s, jsonb_build_object('i', g), 'key:' || (g %% %(keys)s), %(most)s, 'queue' "
    "FROM task, generate_series(1, %(many)s) g"
)
PLAIN = (
    "INSERT INTO due_work (slot, task_id, task_version, trigger, run_at, params) "
    "SELECT 0, id, 1, 'run_now', now(), jsonb_build_object('i', g) FROM task, generate_series(1, %(many)s) g"
)
BARE = """
WITH picked AS MATERIALIZED (
  SELECT d.*
  FROM generate_series(1, 9) AS p(priority)
  CROSS JOIN LATERAL (
    SELECT w.id, w.slot, w.fence IS NOT NULL AS leased_before
    FROM duework.due_work w
    WHERE w.slot >= 0 AND NOT w.waiting AND w.priority = p.priority
      AND w.run_at <= coalesce(%(now)s::timestamptz, now()) + %(ahead)s AND w.locked_until IS NULL
      AND (w.expires_at IS NULL OR w.expires_at > coalesce(%(now)s::timestamptz, now()) OR w.attempt > 0)
    ORDER BY w.run_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
  ) d
  LIMIT %(limit)s
)
UPDATE duework.due_work w
SET locked_until = coalesce(%(now)s::timestamptz, now()) + %(lease)s, locked_by = %(worker)s,
    attempt = w.attempt + 1, fence = nextval('duework.fence')
FROM picked d
WHERE w.id = d.id AND w.slot = d.slot
RETURNING w.id AS run_id, w.slot, w.task_id, w.task_version, w.trigger, w.scheduled_for, w.run_at, w.priority,
          w.attempt, w.fence, w.params, w.event, w.state, w.created_by, d.leased_before,
          coalesce(%(now)s::timestamptz, clock_timestamp()) AS leased_at
"""
"""The lease as it would be if there were no keys."""
HOLDER = "INSERT INTO concurrency_slot (key, slot, run_id) VALUES ('key:0', 0, gen_random_uuid())"


@dataclass(frozen=True)
class Variant:
    """What lies in the queue: `behind` rows under a key that is taken; jobs over `keys` of limit `most` (0: none)."""

    name: str
    behind: int = 0
    waiting: bool = True
    keys: int = 0
    most: int = 1
    pinned: bool = False


async def fill(conn: db.Connection, jobs: int, variant: Variant) -> None:
    """Empty the tables and queue what the variant wants."""
    await conn.execute("TRUNCATE due_work, task_run, step_run, checkpoint, concurrency_slot, task CASCADE")
    async with conn.transaction():
        await tasks.create(conn, parse_definition(PIPELINE), "drain", datetime.now(UTC))
    if variant.behind:
        await conn.execute(HOLDER)
        values = {"waiting": variant.waiting, "age": timedelta(hours=1), "keys": 1, "most": 1}
        await conn.execute(ROWS.encode(), values | {"many": variant.behind})
    if variant.keys:
        values = {"waiting": False, "age": timedelta(0), "keys": variant.keys, "most": variant.most}
        await conn.execute(ROWS.encode(), values | {"many": jobs})
    else:
        await conn.execute(PLAIN.encode(), {"many": jobs})
    await conn.execute("VACUUM ANALYZE due_work")


async def loop(conn: db.Connection, jobs: int, keyed: bool) -> None:
    """Lease and settle batches until all jobs have ended; in a transaction where numbers have to be passed on."""
    done = 0
    while done < jobs:
        taken = await leases.lease(conn, "bench", BATCH, timedelta(seconds=30))
        at = datetime.now(UTC).isoformat()
        ended = {"status": "succeeded", "started_at": at, "finished_at": at}
        rows = [{"id": str(one.run_id), "fence": one.fence} | ended for one in taken]
        if rows:
            async with conn.transaction() if keyed else nullcontext():
                done += len(await leases.settle(conn, rows, []))


@asynccontextmanager
async def horizon(url: str, pinned: bool) -> AsyncIterator[None]:
    """While the block runs, an idle transaction holds a snapshot, if so wished."""
    async with await db.connect(url, "report") as conn:
        if not pinned:
            yield
            return
        async with conn.transaction():
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await conn.execute("SELECT 1 FROM task")
            yield


def variants(waiting: int) -> list[Variant]:
    """What is measured, the yardstick first."""
    return [
        Variant("no key, nobody waits"),
        Variant(f"no key, {waiting} wait", behind=waiting),
        Variant(f"no key, {waiting} arrive", behind=waiting, waiting=False),
        Variant("a key for each job", keys=2**31 - 1),
        Variant("200 keys of limit 10", keys=200, most=10),
        Variant("one key of limit 100", keys=1, most=100),
        Variant("one key of limit 100, pinned", keys=1, most=100, pinned=True),
    ]


async def compare(url: str, rows: int, turns: int) -> tuple[float, float]:
    """Median ms that the lease of `rows` rows takes, without and with keys: prepared, in turns, rolled back."""
    values = {"worker": "w", "limit": rows, "lease": timedelta(minutes=1), "ahead": timedelta(0), "now": None}
    took: dict[bytes, list[float]] = {BARE.encode(): [], db.query("lease_due_work"): []}
    async with await db.connect(url, "bench") as conn:
        await fill(conn, 5000, Variant(""))
        for turn in range(turns + 5):
            for statement, seen in list(took.items())[:: 1 if turn % 2 else -1]:
                begun = time.perf_counter()
                async with conn.transaction(force_rollback=True):
                    await (await conn.execute(statement, values, prepare=True)).fetchall()
                seen.append((time.perf_counter() - begun) * 1e3)
            if turn % 10 == 0:
                await conn.execute("VACUUM due_work")
    bare, keyed = (statistics.median(seen[5:]) for seen in took.values())
    return bare, keyed


async def run(url: str, jobs: int, waiting: int, rounds: int) -> None:
    """Measure every variant `rounds` times, interleaved, and print the medians."""
    with psycopg.connect(url) as conn:
        pid = conn.execute("SELECT pg_backend_pid()").fetchone()
        assert pid is not None, "a select always answers"
        postmaster = int(Path(f"/proc/{pid[0]}/stat").read_text().rsplit(")", 1)[1].split()[1])
    seen: dict[str, list[Measured]] = {variant.name: [] for variant in variants(waiting)}
    for _ in range(rounds):
        for variant in variants(waiting):
            async with await db.connect(url, "bench") as filler:
                await fill(filler, jobs, variant)
            # The connection outlives the measurement, or its backend's CPU would be lost with it.
            async with horizon(url, variant.pinned), await db.connect(url, "bench") as own:
                work = loop(own, jobs, variant.keys > 0)
                seen[variant.name].append(await measure_loop(postmaster, jobs, work))
    show(seen, jobs, rounds)
    print()
    for rows in (1, BATCH):
        bare, keyed = await compare(url, rows, turns=min(300, max(20, jobs // 20)))
        print(
            f"lease of {rows:>3} without a key  {keyed:.2f} ms, {bare:.2f} ms by a statement that knows no keys"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command-line entry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database-url", help="a server to measure on; default: an embedded one")
    given = parser.parse_args(arguments)
    postgres.open_session()
    with server(given.database_url) as admin, postgres.database(admin) as url:
        migrations.upgrade(url)
        asyncio.run(run(url, given.jobs, given.waiting, given.rounds))


if __name__ == "__main__":
    main()
