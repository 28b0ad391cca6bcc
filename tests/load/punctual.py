"""How punctual a run is: from the instant that its schedule names to the start of its first step.

    python -m tests.load.punctual [--seconds 60] [--tasks 20]

A scheduler and a worker process with their default settings; tasks that fire every second, each at a phase of its
own. Every figure is read from the history, by the database's clock. The first seconds, in which processes start and
definitions are compiled, are shown on a line of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import migrations
from engine import db
from engine.pipeline import parse_definition
from engine.settings import Settings, child_environment
from engine.store import tasks
from tests import postgres
from tests.load.drain import server
from tests.polling import poll_until

WARM = timedelta(seconds=5)
LATENESS = """
SELECT count(*) AS runs, min(late) AS least, percentile_cont(0.5) WITHIN GROUP (ORDER BY late) AS p50,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY late) AS p95,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY late) AS p99, max(late) AS most
FROM (SELECT extract(epoch FROM min(s.started_at) - r.scheduled_for)::float8 * 1000 AS late
      FROM duework.task_run r JOIN duework.step_run s USING (run_id, attempt)
      WHERE r.scheduled_for >= %(since)s AND r.scheduled_for < %(before)s
      GROUP BY r.run_id, r.attempt, r.scheduled_for) t
"""
UNTOLD = """
SELECT count(*) AS n FROM duework.occurrence o
WHERE o.scheduled_for >= %(since)s AND o.scheduled_for < %(before)s
  AND NOT EXISTS (SELECT FROM duework.task_run r WHERE r.run_id = o.run_id)
"""


def document(number: int, schedule: dict[str, Any]) -> dict[str, Any]:
    """A pipeline of one step."""
    step = {"id": "echo", "uses": "core.echo", "with": {"text": "on the instant"}}
    name = f"punctual-{number}"
    return {
        "apiVersion": "duework/v1",
        "kind": "Pipeline",
        "name": name,
        "title": name,
        "schedule": schedule,
        "steps": [step],
    }


def schedules(count: int) -> list[dict[str, Any]]:
    """The first is a rule, which fires on the full second; the others are spread over it."""
    phased = [
        {"every": "1s", "start": f"2026-01-01T00:00:00.{n * 1_000_000 // count:06}"} for n in range(count)
    ]
    return [{"rrule": "FREQ=SECONDLY"} if n == 0 else each for n, each in enumerate(phased)]


async def define(conn: db.Connection, count: int) -> None:
    """Store the tasks."""
    now = await db.clock(conn)
    for number, schedule in enumerate(schedules(count)):
        definition = parse_definition(document(number, schedule))
        async with conn.transaction():
            await tasks.create(conn, definition, f"punctual-{number}", now)


async def watch(conn: db.Connection, seconds: float) -> tuple[datetime, datetime]:
    """From the first settled run on, let the schedules fire; the first and the last instant to look at."""

    async def began() -> list[datetime]:
        cursor = await conn.execute("SELECT started_at AS at FROM duework.task_run ORDER BY 1 LIMIT 1")
        return [row["at"] for row in await cursor.fetchall()]

    (since,) = await poll_until(began, timeout=180)
    before = since + WARM + timedelta(seconds=seconds)

    async def over() -> bool:
        return await db.clock(conn) > before + timedelta(seconds=1)

    await poll_until(over, timeout=seconds + 60)
    return since, before


async def run(url: str, seconds: float, count: int) -> None:
    """Start the processes, wait, and print what the history says."""
    settings = Settings(database_url=url, log_level="WARNING")
    async with await db.connect(url, "bench") as conn:
        await define(conn, count)
        children = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, env=child_environment(settings)
            )
            for module in ("scheduler.main", "workers.main")
        ]
        try:
            since, before = await watch(conn, seconds)
        finally:
            for child in children:
                child.terminate()
            await asyncio.gather(*(child.wait() for child in children))
        print(
            f"{count} tasks that fire every second, {seconds:.0f} s; ms from the instant to the first step\n"
        )
        print(f"{'':10}{'runs':>8}{'least':>9}{'p50':>9}{'p95':>9}{'p99':>9}{'most':>9}")
        for name, begin, end in (("warming", since, since + WARM), ("then", since + WARM, before)):
            values = {"since": begin, "before": end}
            row = await (await conn.execute(LATENESS, values)).fetchone()
            assert row is not None, "an aggregate always answers"
            figures = "".join(f"{row[key] or 0:>9.2f}" for key in ("least", "p50", "p95", "p99", "most"))
            print(f"{name:10}{row['runs']:>8}{figures}")
        untold = await (await conn.execute(UNTOLD, {"since": since + WARM, "before": before})).fetchone()
        print(f"\n{untold['n'] if untold else 0} instants without a run")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command-line entry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--database-url", help="a server to measure on; default: an embedded one")
    given = parser.parse_args(arguments)
    postgres.open_session()
    with server(given.database_url) as admin, postgres.database(admin) as url:
        migrations.upgrade(url)
        asyncio.run(run(url, given.seconds, given.tasks))


if __name__ == "__main__":
    main()
