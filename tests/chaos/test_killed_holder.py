"""Concurrency keys when their holders die: the rescue goes first, nothing leaks, and no limit is exceeded."""

from __future__ import annotations

import asyncio
import random
from typing import Any
from uuid import UUID

from engine import db
from engine.db import Connection, Row
from tests.factories import make_task, one, queue, rows, step, until
from tests.processes import Crew

LIMITS = {"narrow": 1, "wide": 3, "skipping": 1, "replacing": 1}
PAUSE = {"sql": "SELECT pg_sleep((SELECT pause FROM public.pace))::text"}
STEPS = [step("hold", "sql.query", with_=PAUSE), step("last", "core.echo", with_={"x": 1})]
OVER = """
SELECT concurrency_key FROM duework.due_work WHERE locked_until IS NOT NULL
GROUP BY concurrency_key HAVING count(*) > max(concurrency_limit)
"""
OVERLAPS = """
WITH ends AS (
  SELECT t.concurrency ->> 'limit' AS most, r.task_id, r.started_at AS at, 1 AS step FROM duework.task_run r
  JOIN duework.task t ON t.id = r.task_id WHERE r.started_at IS NOT NULL
  UNION ALL
  SELECT t.concurrency ->> 'limit', r.task_id, r.finished_at, -1 FROM duework.task_run r
  JOIN duework.task t ON t.id = r.task_id WHERE r.started_at IS NOT NULL
), counted AS (
  SELECT *, sum(step) OVER (PARTITION BY task_id ORDER BY at, step ROWS UNBOUNDED PRECEDING) AS many FROM ends
)
SELECT * FROM counted WHERE many > most::integer
"""


async def pace(conn: Connection, pause: float) -> None:
    """How long each run holds its number."""
    await conn.execute("CREATE TABLE IF NOT EXISTS public.pace (pause float)")
    await conn.execute("TRUNCATE public.pace")
    await conn.execute("INSERT INTO public.pace VALUES (%s)", [pause])


async def test_a_killed_holder_is_rescued_with_its_number(conn: Connection, crew: Crew) -> None:
    """The run of a killed worker goes on under the number it had; who waits, waits until it has ended."""
    await pace(conn, 60)
    task = await make_task(conn, steps=STEPS, concurrency={"limit": 1})
    first = await queue(conn, task)
    victim = await crew.worker()
    await until(conn, "SELECT FROM duework.queue WHERE locked_by IS NOT NULL")
    second = await queue(conn, task)
    await until(conn, "SELECT FROM duework.runs WHERE run_id = %s AND status = 'waiting'", second)
    await victim.kill()
    await pace(conn, 0)
    await crew.scheduler()
    await crew.worker()
    await until(conn, "SELECT WHERE NOT EXISTS (SELECT FROM duework.due_work)")
    ended = await rows(
        conn, "SELECT run_id, attempt, status FROM duework.task_run WHERE final ORDER BY finished_at"
    )
    assert [tuple(row.values()) for row in ended] == [(first, 2, "succeeded"), (second, 1, "succeeded")]
    assert await one(conn, "SELECT count(*) FROM duework.concurrency_slot") == 0


async def watch(url: str, stop: asyncio.Event) -> list[Row]:
    """What was ever over its limit, asked as fast as the database answers."""
    async with await db.connect(url, "watcher") as conn:
        found: list[Row] = []
        while not stop.is_set():
            found += await rows(conn, OVER)
        return found


async def test_limits_hold_while_workers_are_killed(conn: Connection, database_url: str, crew: Crew) -> None:
    """Workers are killed at random: at no instant more than the limit, each run ends once, no number is left."""
    await pace(conn, 0.02)
    dice = random.Random(7)
    policies = {"skipping": "skip", "replacing": "cancel_running"}
    made = [
        await make_task(
            conn, name, STEPS, concurrency={"limit": limit, "on_conflict": policies.get(name, "queue")}
        )
        for name, limit in LIMITS.items()
    ]
    asked: list[UUID] = []
    stop = asyncio.Event()
    watching = asyncio.create_task(watch(database_url, stop))
    await crew.scheduler()
    living = [await crew.worker() for _ in range(2)]
    for _ in range(4):
        asked += [await queue(conn, dice.choice(made)) for _ in range(40)]
        await until(conn, "SELECT FROM duework.queue WHERE locked_by IS NOT NULL")
        victim = living.pop(dice.randrange(len(living)))
        await victim.kill()
        living.append(await crew.worker())
    await until(conn, "SELECT WHERE NOT EXISTS (SELECT FROM duework.due_work)", timeout=180)
    stop.set()
    assert await watching == []
    assert await rows(conn, OVERLAPS) == []
    ends: list[Any] = await rows(conn, "SELECT run_id FROM duework.task_run WHERE final")
    assert sorted(row["run_id"] for row in ends) == sorted(asked)
    assert await one(conn, "SELECT count(*) FROM duework.task_run WHERE status = 'expired'") > 0
    assert await one(conn, "SELECT count(*) FROM duework.concurrency_slot") == 0
