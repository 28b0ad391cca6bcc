"""The settler: groups in one commit, a bad row alone, and nothing lost while the database is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from engine import db
from engine.db import Connection, Pool
from engine.service import Service
from engine.settings import Settings
from engine.store import leases
from engine.store.leases import Lease
from tests.factories import make_task, one, queue, record, rows
from tests.polling import poll_until
from workers.settler import Settlement, Settler

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with db.pool(Settings(database_url=database_url), "test", size=2) as made:
        yield made


async def leased(conn: Connection, count: int) -> list[Lease]:
    task = await make_task(conn)
    for _ in range(count):
        await queue(conn, task)
    return await leases.lease(conn, "w1", count, MINUTE)


def ended(lease: Lease, status: str = "succeeded", **members: object) -> Settlement:
    done = Settlement("settle", lease.run_id, lease.fence, status, lease.leased_at, lease.leased_at)
    return replace(done, steps=(record(lease),), **members)  # type: ignore[arg-type]  # by Settlement's own names


async def settled(pool: Pool, batch: list[Settlement]) -> dict[UUID, bool]:
    """Whether each settlement was kept, written in one flush."""
    settler = Settler(pool)
    kept: dict[UUID, bool] = {}
    for each in batch:
        await settler.add(each, partial(kept.__setitem__, each.run_id))
    await settler.flush()
    async with asyncio.timeout(5):
        await settler.drain()
    return kept


async def test_a_group_is_one_commit(conn: Connection, pool: Pool) -> None:
    """A hundred runs that end together are written by one statement."""
    held = await leased(conn, 100)
    kept = await settled(pool, [ended(lease) for lease in held])
    assert kept == {lease.run_id: True for lease in held}
    assert await one(conn, "SELECT count(DISTINCT xmin::text) FROM duework.task_run") == 1
    assert await one(conn, "SELECT count(*) FROM duework.step_run") == 100


async def test_one_bad_row_costs_the_others_nothing(conn: Connection, pool: Pool) -> None:
    """A batch that PostgreSQL refuses is halved until the bad row is alone; that run fails, the others stand."""
    held = await leased(conn, 21)
    batch = [ended(lease) for lease in held]
    batch[7] = ended(held[7], output={"x": "\x00"})
    batch[8] = replace(batch[8], kind="retry", status="failed", error={"message": "\x00"})
    with capture_logs() as logs:
        kept = await settled(pool, batch)
    assert all(kept.values())
    assert {line["event"] for line in logs} == {"settle.bisected"}
    found = await rows(conn, "SELECT run_id, status, error FROM duework.task_run WHERE final")
    bad = {row["run_id"]: row["error"]["code"] for row in found if row["status"] == "failed"}
    assert bad == {held[7].run_id: "output_invalid", held[8].run_id: "output_invalid"}
    assert len(found) == 21
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0


async def test_kinds_are_told_apart_and_stale_ones_are_told(conn: Connection, pool: Pool) -> None:
    """Settle, retry and release in one flush; a stale fence among them is answered with False."""
    held = await leased(conn, 4)
    batch = [
        ended(held[0]),
        replace(ended(held[1], "failed"), kind="retry", delay=MINUTE),
        replace(ended(held[2]), kind="release", state={"step": "only"}),
        replace(ended(held[3]), fence=held[3].fence - 1),
    ]
    kept = await settled(pool, batch)
    assert [kept[lease.run_id] for lease in held] == [True, True, True, False]
    left = await rows(conn, "SELECT id, attempt, locked_by FROM duework.due_work ORDER BY id")
    assert {row["id"]: (row["attempt"], row["locked_by"]) for row in left} == {
        held[1].run_id: (1, None),
        held[2].run_id: (0, None),
        held[3].run_id: (1, "w1"),
    }


async def test_results_wait_out_an_outage(conn: Connection, pool: Pool) -> None:
    """Results that could not be written are written when the database is back; nobody has to do anything."""
    held = await leased(conn, 3)
    settler = Settler(pool)
    kept: list[bool] = []
    cut = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'duework-test' AND pid <> %s"""
    async with pool.connection():
        await rows(conn, cut, conn.info.backend_pid)
    service = Service("workers.settle", settler.flush, timedelta(0))
    task = asyncio.create_task(service.run())
    with capture_logs():
        for lease in held:
            await settler.add(ended(lease), kept.append)
        await poll_until(lambda: len(kept) == 3)
    task.cancel()
    await asyncio.wait([task])
    assert kept == [True, True, True]
    assert await one(conn, "SELECT count(*) FROM duework.task_run") == 3


async def test_checkpoints_leave_with_their_run(conn: Connection, pool: Pool) -> None:
    """In the same commit: no reader sees the steps of a run twice; a stale settlement takes none away."""
    mine, lost = await leased(conn, 2)
    for lease in (mine, lost):
        assert await leases.checkpoint(conn, lease.run_id, lease.fence, "only", -1, record(lease).as_dict())
    stale = replace(ended(lost, checkpointed=True), fence=lost.fence - 1)
    await settled(pool, [ended(mine, checkpointed=True), stale])
    assert [row["run_id"] for row in await rows(conn, "SELECT run_id FROM duework.checkpoint")] == [
        lost.run_id
    ]
    assert await one(conn, "SELECT count(*) FROM duework.steps WHERE run_id = %s", mine.run_id) == 1


async def test_a_batch_beyond_what_postgresql_takes_is_halved(conn: Connection, pool: Pool) -> None:
    """Results that are too large together (SQLSTATE 54000, no DataError) are written apart; none waits for ever."""
    held = await leased(conn, 3)
    kept = await settled(pool, [ended(lease, output={"x": "y" * 120_000_000}) for lease in held])
    assert kept == {lease.run_id: True for lease in held}
    assert await one(conn, "SELECT count(*) FROM duework.task_run WHERE status = 'succeeded'") == 3
