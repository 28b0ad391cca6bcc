"""How fast a backlog is drained: one and two worker processes beside a bare SQL loop, on one server, in one run.

    python -m tests.load.drain --jobs 20000 [--rounds 3]

Each job is a run of a one-step pipeline with a payload of its own: leased, rendered, schema-checked, gated
twice, settled with its history. The bare loop leases and settles rows of the same queue with nothing in
between: what this server gives at best. CPU is that of the workers and of PostgreSQL together, read from
/proc, so that a noisy neighbour changes the rate but hardly the cost.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

import migrations
from engine import db
from engine.pipeline import parse_definition
from engine.settings import Settings, child_environment
from engine.store import leases, tasks
from ops import embedded
from tests import postgres
from tests.polling import poll_until

TICKS = os.sysconf("SC_CLK_TCK")
BATCH = 200
PIPELINE = {
    "apiVersion": "duework/v1",
    "kind": "Pipeline",
    "name": "drain",
    "title": "Drain",
    "schedule": {"manual": True},
    "steps": [{"id": "echo", "uses": "core.echo", "with": {"text": "job ${params.i}"}}],
}


@dataclass(frozen=True)
class Measured:
    """One round: jobs per second, and µs of CPU per job, of the clients and of PostgreSQL."""

    rate: float
    client: float
    server: float


async def fill(conn: db.Connection, jobs: int) -> None:
    """Empty the tables and queue `jobs` runs with distinct parameters."""
    await conn.execute("TRUNCATE due_work, task_run, step_run, checkpoint, task CASCADE")
    async with conn.transaction():
        task = await tasks.create(conn, parse_definition(PIPELINE), "drain", datetime.now(UTC))
    await conn.execute(
        "INSERT INTO due_work (slot, task_id, task_version, trigger, run_at, params) "
        "SELECT 0, %s, 1, 'run_now', now(), jsonb_build_object('i', g) FROM generate_series(1, %s) g",
        [task["id"], jobs],
    )
    await conn.execute("VACUUM ANALYZE due_work")


async def bare(url: str, jobs: int) -> None:
    """Lease and settle in batches, with no pipeline in between."""
    async with await db.connect(url, "bench") as conn:
        done = 0
        while done < jobs:
            taken = await leases.lease(conn, "bench", BATCH, timedelta(seconds=30))
            at = datetime.now(UTC).isoformat()
            runs = [
                {
                    "id": str(one.run_id),
                    "fence": one.fence,
                    "status": "succeeded",
                    "started_at": at,
                    "finished_at": at,
                }
                for one in taken
            ]
            done += len(await leases.settle(conn, runs, []))


async def workers(url: str, jobs: int, processes: int) -> None:
    """Real worker processes, from their first lease to the last settled run."""
    settings = Settings(database_url=url, concurrency=10, log_level="WARNING")
    async with await db.connect(url, "bench") as conn:

        async def fence() -> int:
            row = await (await conn.execute("SELECT last_value AS n FROM duework.fence")).fetchone()
            return row["n"] if row else 0

        async def settled() -> bool:
            row = await (await conn.execute("SELECT count(*) AS n FROM task_run")).fetchone()
            return row is not None and row["n"] >= jobs

        async def leased() -> bool:
            return await fence() >= first + jobs

        first = await fence()
        children = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "workers.main", env=child_environment(settings)
            )
            for _ in range(processes)
        ]
        # Each lease draws a fence; to count the settled rows all the while would be part of what is measured.
        await poll_until(leased, timeout=600)
        await poll_until(settled, timeout=600)
    for child in children:
        child.terminate()
        await child.wait()


async def measure(url: str, postmaster: int, jobs: int, work: Callable[[], Awaitable[None]]) -> Measured:
    """Fill, run, and relate time and CPU to the jobs done."""
    async with await db.connect(url, "bench") as conn:
        await fill(conn, jobs)
    before, server = _clients(), _server(postmaster)
    began = time.perf_counter()
    await work()
    took = time.perf_counter() - began
    client, served = _clients() - before, _server(postmaster) - server
    async with await db.connect(url, "bench") as conn:
        ends = await conn.execute("SELECT max(finished_at) - min(started_at) AS took FROM task_run")
        row = await ends.fetchone()
    # Workers start up for a second; their own first and last instants are what counts for the rate.
    span = row["took"].total_seconds() if row and row["took"] else 0.0
    return Measured(jobs / (span if span > took / 10 else took), client / jobs * 1e6, served / jobs * 1e6)


async def measure_loop(postmaster: int, jobs: int, work: Awaitable[None]) -> Measured:
    """Time and CPU per job of a loop in this process over rows that are there already."""
    before, server = _clients(), _server(postmaster)
    began = time.perf_counter()
    await work
    took = time.perf_counter() - began
    client, served = _clients() - before, _server(postmaster) - server
    return Measured(jobs / took, client / jobs * 1e6, served / jobs * 1e6)


def _clients() -> float:
    """CPU seconds of this process and of the children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _server(postmaster: int) -> float:
    """CPU seconds of PostgreSQL: the postmaster with its dead children, and its living ones."""
    total = 0.0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text()
        except OSError:
            continue
        fields = text.rsplit(")", 1)[1].split()
        parent, times = int(fields[1]), [int(field) for field in fields[11:15]]
        if int(entry.name) == postmaster:
            total += sum(times) / TICKS
        elif parent == postmaster:
            total += sum(times[:2]) / TICKS
    return total


@contextmanager
def server(given: str | None) -> Iterator[str]:
    """The server to measure on: one that was named, or an embedded one with its durable defaults."""
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="duework-bench-") as state:
        Path(state).chmod(0o755)
        try:
            yield embedded.start(Path(state)).url
        finally:
            embedded.stop(Path(state))


async def run(url: str, jobs: int, rounds: int) -> None:
    """Measure every variant `rounds` times, interleaved, and print the medians."""
    with psycopg.connect(url) as conn:
        pid = conn.execute("SELECT pg_backend_pid()").fetchone()
        assert pid is not None, "a select always answers"
        postmaster = int(Path(f"/proc/{pid[0]}/stat").read_text().rsplit(")", 1)[1].split()[1])
    variants: dict[str, Callable[[], Awaitable[None]]] = {
        f"bare SQL, lease({BATCH}) + settle": lambda: bare(url, jobs),
        "1 worker process": lambda: workers(url, jobs, 1),
        "2 worker processes": lambda: workers(url, jobs, 2),
    }
    seen: dict[str, list[Measured]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, work in variants.items():
            seen[name].append(await measure(url, postmaster, jobs, work))
    show(seen, jobs, rounds)


def show(seen: Mapping[str, Sequence[Measured]], jobs: int, rounds: int) -> None:
    """Print the medians of each variant's rounds as a table."""
    print(f"{jobs} jobs, medians of {rounds}, {os.cpu_count()} cores\n")
    print(f"{'':34}{'jobs/s':>9}{'client µs':>11}{'server µs':>11}{'sum µs':>9}")
    for name, measured in seen.items():
        rate, client, served = (
            statistics.median(getattr(one, field) for one in measured)
            for field in ("rate", "client", "server")
        )
        print(f"{name:34}{rate:>9.0f}{client:>11.0f}{served:>11.0f}{client + served:>9.0f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command-line entry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database-url", help="a server to measure on; default: an embedded one")
    given = parser.parse_args(arguments)
    postgres.open_session()
    with server(given.database_url) as admin, postgres.database(admin) as url:
        migrations.upgrade(url)
        asyncio.run(run(url, given.jobs, given.rounds))


if __name__ == "__main__":
    main()
