"""Edits, pauses and resumes in a loop while several schedulers tick: the ledger is exact, whatever met whatever."""

from __future__ import annotations

import os
import random
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from engine import db
from engine.db import Connection, Row
from engine.pipeline import parse_definition
from engine.schedule import Schedule
from engine.store import ledger, tasks
from tests.factories import document, make_task, one, rows, until
from tests.processes import Crew

SECONDS = float(os.environ.get("DUEWORK_TEST_SECONDS", "10"))
"""How long the edits go on; a minute shows more, CI has less."""
CALM = timedelta(minutes=1)
"""A grace with which a machine that is busy with other tests makes no instant late."""
TASKS = 5
SCHEDULES: list[dict[str, Any]] = [
    {"every": "1s"},
    {"every": "2s", "catchup": {"policy": "all"}},
    {"rrule": "FREQ=SECONDLY"},
    {"rrule": "FREQ=MINUTELY;BYSECOND=0,5,6,7,20,35,36,50"},
]


class Era:
    """One schedule of one task, and from when to when it was in force."""

    def __init__(self, schedule: Schedule, since: datetime) -> None:
        self.schedule = schedule
        self.since = since
        self.until: datetime | None = None

    def instants(self, until: datetime) -> list[datetime]:
        """What the ledger must hold of it."""
        end = self.until or until
        return [at for at in self.schedule.next(self.since, 5000) if at <= end]


@pytest.mark.timeout(SECONDS * 3 + 180)
async def test_edits_while_three_schedulers_tick(conn: Connection, crew: Crew) -> None:
    """Each instant of each schedule, while it was in force, is in the ledger once; no work is without its line."""
    made = [await make_task(conn, f"job-{n}", schedule=SCHEDULES[n % 4]) for n in range(TASKS)]
    eras = {task["id"]: [Era(ledger.schedule_from(task), task["created_at"])] for task in made}
    for _ in range(3):
        await crew.scheduler(misfire_grace=CALM)
    dice, begun, edits = random.Random(3), await db.clock(conn), 0
    while await db.clock(conn) < begun + timedelta(seconds=SECONDS):
        task = dice.choice(made)
        await edit(conn, task, dice, eras[task["id"]])
        edits += 1
    caught_up = "SELECT FROM duework.task WHERE next_run > now() HAVING count(*) = %s"
    await until(conn, caught_up, TASKS)
    for member in crew.members:
        member.process.terminate()
        await member.ended()
    assert edits > 10
    for task in made:
        await check(conn, task, eras[task["id"]])
    odd = """SELECT FROM duework.due_work d FULL JOIN duework.occurrence o ON o.run_id = d.id
      WHERE o.task_id IS NULL OR (d.id IS NULL AND o.disposition = 'scheduled')"""
    assert await rows(conn, odd) == []


async def edit(conn: Connection, task: Row, dice: random.Random, eras: list[Era]) -> None:
    """Give the task another schedule, or the same again, at the database's present."""
    definition = parse_definition(document(task["name"], schedule=dice.choice(SCHEDULES)))
    async with conn.transaction():
        current = await tasks.get(conn, task["id"], lock=True)
        # The API takes the transaction's beginning, which is older than the lock that it has waited for.
        now = await one(conn, dice.choice(["SELECT now()", "SELECT clock_timestamp()"]))
        changed = await tasks.change(conn, current, definition, now)
    eras[-1].until = now
    eras.append(Era(ledger.schedule_from(changed), now))


async def check(conn: Connection, task: Row, eras: list[Era]) -> None:
    """The ledger against the eras."""
    current = await tasks.get(conn, task["id"])
    expected = Counter(at for era in eras for at in era.instants(current["next_run"] - timedelta.resolution))
    found: Counter[datetime] = Counter()
    for row in await rows(conn, "SELECT * FROM duework.occurrence WHERE task_id = %s", task["id"]):
        first, last = row["scheduled_for"], row["last_for"] or row["scheduled_for"]
        found.update(at for at in expected if first <= at <= last)
    assert found == expected, {
        "lost": [str(at) for at in expected if not found[at]][:5],
        "doubled": [str(at) for at, n in found.items() if n > 1][:5],
    }
