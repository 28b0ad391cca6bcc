"""Promise (a) with real processes: schedulers come, go and are killed; no instant is lost and none runs twice."""

from __future__ import annotations

import os
import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from engine import db
from engine.db import Row
from engine.store import ledger, tasks
from tests.factories import make_task, one, rows, until
from tests.processes import Crew

SECONDS = float(os.environ.get("DUEWORK_TEST_SECONDS", "10"))
"""How long the schedules fire; a minute shows more, CI has less."""
CALM = timedelta(minutes=1)
"""A grace with which a machine that is busy with other tests makes no instant late."""
SCHEDULES: list[dict[str, Any]] = [
    {"every": "1s"},
    {"every": "1s", "catchup": {"policy": "all"}},
    {"rrule": "FREQ=SECONDLY"},
    {"rrule": "FREQ=SECONDLY;INTERVAL=2"},
    {"rrule": "FREQ=MINUTELY;BYSECOND=0,1,2,3,10,20,30,31,32,40,50,59"},
    {"every": "1s", "jitter": "2s"},
    {"cron": "* * * * *"},
]
STALLED = """SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
  WHERE l.locktype = 'advisory' AND l.objid = 7 AND a.datname = current_database()"""
TICKED = "SELECT FROM duework.task WHERE next_run > now() HAVING count(*) = %s"


@pytest.mark.timeout(SECONDS * 3 + 180)
async def test_schedulers_killed_at_random_and_every_instant_once(conn: db.Connection, crew: Crew) -> None:
    """Three schedulers, killed with -9 and replaced all the time, and a worker: each instant is one run, told once."""
    made = [await make_task(conn, f"job-{n}", schedule=each) for n, each in enumerate(SCHEDULES)]
    begun, dice, killed = await db.clock(conn), random.Random(7), 0
    await crew.worker()
    living = [await crew.scheduler(misfire_grace=CALM) for _ in range(3)]
    passed = "SELECT WHERE now() > %s"
    while not await rows(conn, passed, begun + timedelta(seconds=SECONDS)) or not killed:
        victim = living.pop(dice.randrange(len(living)))
        await until(conn, passed, await db.clock(conn) + timedelta(seconds=dice.uniform(0, 2)))
        await victim.kill()
        killed += 1
        living.append(crew.start("scheduler.main", misfire_grace=CALM))
    await until(conn, TICKED, len(made), timeout=180)
    for member in crew.members[1:]:
        if member.process.poll() is None:
            member.process.terminate()
            await member.ended()
    settled = "SELECT WHERE NOT EXISTS (SELECT FROM duework.due_work WHERE run_at < now())"
    await until(conn, settled)

    for task in made:
        await check_ledger(conn, task)
    run_twice = (
        "SELECT task_id, scheduled_for FROM duework.task_run WHERE final GROUP BY 1, 2 HAVING count(*) > 1"
    )
    assert await rows(conn, run_twice) == []
    lost = """SELECT o.* FROM duework.occurrence o WHERE o.disposition = 'scheduled'
      AND NOT EXISTS (SELECT FROM duework.task_run r WHERE r.run_id = o.run_id AND r.final)
      AND NOT EXISTS (SELECT FROM duework.due_work d WHERE d.id = o.run_id)"""
    assert await rows(conn, lost) == []
    early = "SELECT * FROM duework.task_run WHERE started_at < scheduled_for"
    assert await rows(conn, early) == []
    assert await one(conn, "SELECT count(*) FROM duework.task_run WHERE final AND success") >= 5 * (
        SECONDS - 5
    )


async def check_ledger(conn: db.Connection, task: Row) -> None:
    """Every instant from the definition to next_run is a run of its own: somebody always ticked."""
    current = await tasks.get(conn, task["id"])
    schedule = ledger.schedule_from(current)
    listed = schedule.next(task["created_at"], 1000)
    expected = [instant for instant in listed if task["next_run"] <= instant < current["next_run"]]
    found = await rows(
        conn, "SELECT scheduled_for, disposition FROM duework.occurrence WHERE task_id = %s", task["id"]
    )
    assert {row["disposition"] for row in found} <= {"scheduled"}, task["name"]
    assert Counter(row["scheduled_for"] for row in found) == Counter(expected), task["name"]
    assert expected or task["schedule_kind"] != "every", task["name"]


async def test_a_scheduler_killed_in_its_tick_leaves_nothing_half_done(
    conn: db.Connection, crew: Crew
) -> None:
    """A tick is one transaction: killed within it, another scheduler does the whole of it again."""
    await make_task(conn, schedule={"every": "1s"})
    # The first scheduler's tick stands still between the ledger and its commit, holding its locks.
    await conn.execute(
        "CREATE FUNCTION public.stall() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF pg_try_advisory_xact_lock(7) THEN PERFORM pg_sleep(60); END IF; RETURN NEW; END $$"
    )
    await conn.execute(
        "CREATE TRIGGER stall BEFORE UPDATE ON duework.task FOR EACH ROW EXECUTE FUNCTION stall()"
    )
    first = crew.start("scheduler.main", misfire_grace=CALM)
    await until(conn, STALLED)
    assert await one(conn, "SELECT count(*) FROM duework.occurrence") == 0
    await first.kill()
    # The server notices a vanished client when its statement ends; this one would last a minute.
    await conn.execute(
        "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.objid = 7 AND a.datname = current_database()"
    )
    await conn.execute("SELECT pg_advisory_lock(7)")
    await crew.scheduler(misfire_grace=CALM)
    await until(conn, "SELECT FROM duework.due_work HAVING count(*) >= 2")
    odd = """SELECT * FROM duework.occurrence o FULL JOIN duework.due_work d ON d.id = o.run_id
      WHERE o.run_id IS NULL OR d.id IS NULL"""
    assert await rows(conn, odd) == []
