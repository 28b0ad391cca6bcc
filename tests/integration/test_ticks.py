"""A scheduler's round: ticks until nothing is due, two of them under way at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from engine import db
from engine.db import Connection
from engine.metrics import Metrics
from engine.settings import Settings
from engine.store.workers import Process
from scheduler.main import ticks
from tests.factories import make_task, one

T0 = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


async def test_a_round_of_many_batches_writes_each_instant_once(conn: Connection, database_url: str) -> None:
    """Eleven tasks of every ten seconds in batches of two: each instant of the horizon is one run, and counted once."""
    for number in range(11):
        await make_task(conn, f"t{number}", schedule={"every": "10s"}, now=T0)
    settings = Settings(database_url=database_url, environment="development", tick_batch=2)
    metrics = Metrics()
    async with db.pool(settings, "scheduler", size=3) as pool:
        for _ in range(2):
            await ticks(settings, pool, metrics, Process.here("scheduler"), now=T0)
    assert await one(conn, "SELECT count(*) FROM duework.occurrence") == 33
    assert await one(conn, "SELECT count(DISTINCT (task_id, scheduled_for)) FROM duework.due_work") == 33
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 33
    assert await one(conn, "SELECT min(next_run) FROM duework.task") == T0 + timedelta(seconds=40)
    assert "duework_occurrences_materialised_total 33.0" in metrics.exposition().decode()
