"""The SQL that the seed documents show to their users runs unchanged, with `search_path = duework`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from engine import db
from engine.db import Connection
from engine.store import leases
from tests.factories import lease_one, make_task, one, queue, rows, run_row

QUEUE_STATUS = """
SELECT COUNT(*) as pending, 
       MIN(run_at) as oldest,
       MAX(run_at) as newest
FROM due_work 
WHERE run_at <= now();
"""  # noqa: W291  # the documents' own text, trailing blanks included
ACTIVE_TASKS = """
SELECT id, title, status, schedule_kind, next_run
FROM task 
WHERE status = 'active'
ORDER BY priority DESC, created_at ASC;
"""  # noqa: W291  # as above
HISTORY = """
SELECT t.title, tr.success, tr.started_at, tr.duration_ms
FROM task_run tr
JOIN task t ON tr.task_id = t.id
ORDER BY tr.started_at DESC
LIMIT 10;
"""
CLEAN_UP = "TRUNCATE TABLE task_run, due_work, task RESTART IDENTITY CASCADE;"
LEASE = """
            SELECT id, task_id, run_at
            FROM due_work
            WHERE run_at <= now()
              AND (locked_until IS NULL OR locked_until < now())
            ORDER BY run_at ASC
            FOR UPDATE SKIP LOCKED
            LIMIT 1
"""
TAKE = """
            UPDATE due_work
            SET locked_until=%(lu)s, locked_by=%(lb)s
            WHERE id=%(id)s
"""
EXPLAIN = """
EXPLAIN ANALYZE SELECT * FROM due_work 
WHERE run_at <= now() AND locked_until IS NULL
ORDER BY run_at ASC LIMIT 10;
"""  # noqa: W291  # as above
ANALYZE = """
ANALYZE due_work;
ANALYZE task_run;
"""


@pytest.fixture
async def user(database_url: str, conn: Connection) -> AsyncIterator[Connection]:
    """A user's own session, whose only preparation is the search path; one finished and one queued run."""
    task = await make_task(conn, schedule={"every": "1h"})
    await queue(conn, task)
    lease = await lease_one(conn)
    await leases.settle(conn, [run_row(lease)], [])
    await queue(conn, task)
    async with await db.connect(database_url, "user") as session:
        await session.execute("SET search_path = duework")
        yield session


async def test_the_guides_database_operations(user: Connection) -> None:
    """Queue status, active tasks, history and clean-up of the development guide."""
    (status,) = await rows(user, QUEUE_STATUS)
    assert status["pending"] == 1
    assert status["oldest"] == status["newest"]
    (task,) = await rows(user, ACTIVE_TASKS)
    assert (task["title"], task["status"], task["schedule_kind"]) == ("job", "active", "every")
    assert task["next_run"]
    (run,) = await rows(user, HISTORY)
    assert (run["title"], run["success"], run["duration_ms"]) == ("job", True, 5.0)
    await user.execute(CLEAN_UP)
    assert [
        await one(user, "SELECT count(*) FROM task"),
        await one(user, "SELECT count(*) FROM task_run"),
    ] == [0, 0]


async def test_the_skip_locked_lease(user: Connection, conn: Connection) -> None:
    """The guide's lease by hand takes a row, is respected while it lasts, and reaped when it has run out."""
    async with user.transaction():
        (row,) = await rows(user, LEASE)
        until = await db.clock(conn) + timedelta(seconds=60)
        await user.execute(TAKE, {"lu": until, "lb": "by-hand", "id": row["id"]})
        assert await rows(conn, LEASE) == [], "skipped, not waited for"
    assert await rows(user, LEASE) == []
    assert await leases.lease(conn, "w1", 10, timedelta(minutes=1)) == []
    (reaped,) = await leases.reap(conn, now=until + timedelta(seconds=1))
    assert (reaped["run_id"], reaped["worker"], reaped["final"]) == (row["id"], "by-hand", False)
    assert [
        lease.run_id
        for lease in await leases.lease(conn, "w1", 1, timedelta(minutes=1), now=until + timedelta(minutes=1))
    ] == [row["id"]]


async def test_query_performance(user: Connection) -> None:
    """EXPLAIN ANALYZE and ANALYZE of the guide's section on query performance."""
    plan = await rows(user, EXPLAIN)
    assert any("Execution Time" in line["QUERY PLAN"] for line in plan)
    await user.execute(ANALYZE)
    assert await one(user, "SELECT reltuples FROM pg_class WHERE oid = 'task_run'::regclass") == 1
