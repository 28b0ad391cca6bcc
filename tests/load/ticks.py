"""What a tick costs when very many tasks sleep and many of them are due in the same minute.

    python -m tests.load.ticks [--tasks 1000000] [--due 10000] [--rounds 3] [--idle 200]

The tasks are made by SQL: rules, cron lines and intervals of many shapes, zones and ages, no two neighbours alike.
A scheduler process of its own materialises those that are due, then ticks with nothing to do; after each round
the tasks are put back. Statements are counted as they are sent. The server is an embedded one with its durable
defaults unless one is named.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

from psycopg import sql
from sqlalchemy import func, select

import migrations
from engine import db, reflex, telemetry
from engine.metrics import Metrics
from engine.schedule import tzdata_version
from engine.settings import Settings
from engine.store.tables import due_work
from engine.store.workers import Process
from scheduler.main import ticks
from tests import postgres
from tests.load.drain import server

AHEAD = timedelta(seconds=10)
"""How long before the common minute the scheduler comes to it."""
TASKS = """
WITH drawn AS (
  SELECT g, (ARRAY['UTC', 'Europe/Berlin', 'America/Chicago', 'Asia/Kolkata', 'Australia/Sydney', 'America/Sao_Paulo',
                   'Africa/Casablanca', 'Asia/Tokyo', 'Pacific/Auckland', 'America/New_York'])[1 + g %% 10] AS zone,
         CASE WHEN g <= %(due)s THEN %(minute)s::timestamptz
              ELSE %(minute)s::timestamptz + make_interval(mins => (5 + g::bigint * 7919 %% 40000)::integer) END AS due
  FROM generate_series(1, %(tasks)s) g
), timed AS (
  SELECT g, zone, due, due AT TIME ZONE zone AS wall FROM drawn
), written AS (
  SELECT *, to_char(wall, '"BYHOUR="FMHH24";BYMINUTE="FMMI";BYSECOND=0"') AS clock,
         left(to_char(wall, 'DY'), 2) AS day, 1 + g / 8 %% 12 AS many
  FROM timed
)
INSERT INTO duework.task (name, title, schedule_kind, schedule_expr, timezone, schedule_start, schedule_options,
                          payload, next_run, tzdata_version)
SELECT 'task-' || g, 'Task ' || g,
  (ARRAY['rrule', 'cron', 'every', 'rrule', 'cron', 'rrule', 'cron', 'every'])[1 + g %% 8],
  CASE g %% 8
    WHEN 0 THEN 'FREQ=DAILY;INTERVAL=' || many || ';' || clock
    WHEN 1 THEN to_char(wall, 'FMMI FMHH24') || ' * * *'
    WHEN 2 THEN 5 * many || 'm'
    WHEN 3 THEN 'FREQ=WEEKLY;BYDAY=' || day || ';' || clock
    WHEN 4 THEN to_char(wall, 'FMMI FMHH24') || ' * ' || to_char(wall, 'FMMM') || ',' || many || ' *'
    WHEN 5 THEN 'FREQ=MONTHLY;BYMONTHDAY=' || to_char(wall, 'FMDD') || ';' || clock
    WHEN 6 THEN to_char(wall, 'FMMI') || ' ' || to_char(wall, 'FMHH24') || '-23 * * ' || to_char(wall, 'DY')
    ELSE many || 'h' END,
  zone,
  CASE WHEN g %% 8 IN (2, 7) THEN (due - make_interval(mins => 60 * many * 97)) AT TIME ZONE zone
       ELSE wall - make_interval(days => many * (g %% 300)) END,
  CASE WHEN g %% 5 = 0 THEN '{"catchup": {"policy": "all", "max": 3}}'::jsonb
       WHEN g %% 7 = 0 THEN '{"jitter": "20s"}' ELSE '{}' END,
  '{"pipeline": [{"id": "echo", "uses": "core.echo", "with": {"text": "for ${params.who}"}}], "params": {"who": "me"}}',
  due, %(tzdata_version)s
FROM written
"""
RESET = "UPDATE duework.task SET next_run = %(minute)s WHERE name = ANY (%(names)s)"
EMPTY = "TRUNCATE duework.occurrence, duework.due_work"


async def build(url: str, tasks: int, due: int) -> datetime:
    """Make the tasks; the minute at which `due` of them are."""
    async with await db.connect(url, "bench") as conn:
        await conn.execute("SET statement_timeout = 0")
        minute = (await db.clock(conn)).replace(second=0, microsecond=0) + timedelta(days=1)
        values = {"tasks": tasks, "due": due, "minute": minute, "tzdata_version": tzdata_version()}
        await conn.execute(TASKS, values)
        await conn.execute("VACUUM ANALYZE duework.task")
    return minute


async def put_back(url: str, minute: datetime, due: int) -> None:
    """The state before the tick: the same tasks are due, ledger and queue are empty."""
    async with await db.connect(url, "bench") as conn:
        await conn.execute(RESET, {"minute": minute, "names": [f"task-{g}" for g in range(1, due + 1)]})
        await conn.execute(EMPTY)
        await conn.execute("VACUUM ANALYZE duework.task")


async def measured(url: str, minute: datetime, idle: int) -> dict[str, Any]:
    """In the scheduler's own process: materialise what is due, then tick `idle` times with nothing to do."""
    settings = Settings(database_url=url, log_level="ERROR")
    telemetry.configure(settings, reflex.mask)
    process, metrics, sent = Process.here("scheduler"), Metrics(), Counter[str]()
    read = db.query

    def counted(name: str) -> bytes:
        sent[name] += 1
        return read(name)

    async def tick(now: datetime) -> float:
        begun = time.perf_counter()
        await ticks(settings, pool, metrics, process, now=now)
        return time.perf_counter() - begun

    async with db.pool(settings, "scheduler", size=2) as pool:
        for _ in range(5):
            await tick(minute - timedelta(hours=1))
        before = _resident()
        worked = time.process_time()
        with mock.patch.object(db, "query", counted):
            took = await tick(minute - AHEAD)
        worked, peak = time.process_time() - worked, _resident()
        waits = sorted([await tick(minute - AHEAD) for _ in range(idle)])
        async with db.connection(pool) as conn:
            buffers = await _buffers(conn, settings, minute)
            (row,) = await db.select(conn, select(func.count().label("n")).select_from(due_work))
    return {
        "rows": row["n"],
        "seconds": took,
        "cpu": worked,
        "statements": sum(sent.values()),
        "before": before,
        "grown": peak - before,
        "p50": waits[len(waits) // 2] * 1e3,
        "p95": waits[len(waits) * 95 // 100] * 1e3,
        "buffers": buffers,
    }


def _resident() -> float:
    """The most memory that this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _buffers(conn: db.Connection, settings: Settings, minute: datetime) -> int:
    """Pages that `lock_due_tasks` looks at when it finds nothing."""
    explained = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ") + sql.SQL(
        db.query("lock_due_tasks").decode()
    )
    values = {
        "now": minute - AHEAD,
        "horizon": settings.horizon,
        "limit": settings.tick_batch,
        "tzdata_version": tzdata_version(),
        "only": None,
    }
    (row,) = await (await conn.execute(explained, values)).fetchall()
    plan = row["QUERY PLAN"][0]["Plan"]
    assert "Index Scan" in json.dumps(plan), "an idle tick must not read the table"
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def run(url: str, tasks: int, due: int, rounds: int, idle: int) -> None:
    """Measure `rounds` times, each in a process of its own, and print the medians."""
    minute = await build(url, tasks, due)
    seen = []
    for _ in range(rounds):
        await put_back(url, minute, due)
        child = [sys.executable, "-m", "tests.load.ticks", "--measure", minute.isoformat()]
        told = ["--database-url", url, "--idle", str(idle)]
        done = subprocess.run([*child, *told], stdout=subprocess.PIPE, text=True, check=True)
        seen.append(json.loads(done.stdout))
    middle = {name: statistics.median(one[name] for one in seen) for name in seen[0]}
    print(f"{tasks} tasks, {due} due in one minute, medians of {rounds}\n")
    print(f"materialised {middle['rows']:>10.0f} rows in {middle['seconds']:.2f} s")
    print(f"             {middle['rows'] / middle['seconds']:>10.0f} rows/s")
    print(
        f"             {middle['statements']:>10.0f} statements, {middle['cpu']:.2f} s of the scheduler's CPU"
    )
    print(f"memory       {middle['before']:>10.1f} MB before, {middle['grown']:.1f} MB more at its peak")
    print(f"idle tick    {middle['p50']:>10.2f} ms p50, {middle['p95']:.2f} ms p95, of {idle}")
    print(f"lock_due_tasks {middle['buffers']:>8.0f} pages when nothing is due")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command-line entry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--due", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=int, default=200)
    parser.add_argument("--database-url", help="a server to measure on; default: an embedded one")
    parser.add_argument("--measure", type=datetime.fromisoformat, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.measure:
        print(json.dumps(asyncio.run(measured(given.database_url, given.measure, given.idle))))
        return
    postgres.open_session()
    with server(given.database_url) as admin, postgres.database(admin) as url:
        migrations.upgrade(url)
        asyncio.run(run(url, given.tasks, given.due, given.rounds, given.idle))


if __name__ == "__main__":
    main()
