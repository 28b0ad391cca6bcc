"""Promise (f): what was acknowledged survives `kill -9` of PostgreSQL, and workers go on by themselves."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

import migrations
from engine import db
from engine.errors import StoreUnavailable
from engine.store import leases
from ops import embedded
from tests.factories import lease_one, make_task, queue, rows, run_row, step, until
from tests.polling import poll_until
from tests.processes import crew_of, settings_for


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """The state directory of a server of the test's own, with the durability that users get."""
    path = Path(tempfile.gettempdir()) / f"duework-killed-{secrets.token_hex(4)}"
    yield path
    embedded.stop(path)
    shutil.rmtree(path, ignore_errors=True)


def start(state_dir: Path) -> embedded.EmbeddedServer:
    binaries = os.environ.get("DUEWORK_TEST_PG_BIN")
    return embedded.start(state_dir, bin_dir=Path(binaries) if binaries else None)


async def crash(state_dir: Path, server: embedded.EmbeddedServer) -> None:
    """kill -9 of the postmaster and of every backend, as when the machine loses its memory of them."""
    with closing(psycopg.connect(server.url)) as admin:
        found = admin.execute("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()").fetchall()
    for pid in (server.pid, *(row[0] for row in found)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    await poll_until(lambda: embedded.status(state_dir) is None)


async def test_what_was_acknowledged_survives_the_database(state_dir: Path) -> None:
    """An enqueue, a lease, a checkpoint and a settlement that were answered are there after a crash."""
    server = start(state_dir)
    migrations.upgrade(server.url)
    async with await db.connect(server.url, "test") as conn:
        task = await make_task(conn)
        queued = [await queue(conn, task) for _ in range(3)]
        done, held = await lease_one(conn), await lease_one(conn)
        assert await leases.checkpoint(conn, held.run_id, held.fence, "only", -1, {"position": 0})
        assert await leases.settle(conn, [run_row(done)], []) == {done.run_id}
    await crash(state_dir, server)
    async with await db.connect(start(state_dir).url, "test") as conn:
        live = await rows(conn, "SELECT id, fence FROM duework.due_work ORDER BY id")
        assert {row["id"] for row in live} == set(queued) - {done.run_id}
        assert [row["fence"] for row in live if row["id"] == held.run_id] == [held.fence]
        assert [row["run_id"] for row in await rows(conn, "SELECT run_id FROM duework.task_run")] == [
            done.run_id
        ]
        assert len(await leases.checkpoints(conn, [held.run_id])) == 1
        later = await leases.lease(conn, "w2", 9, timedelta(minutes=1))
        assert all(lease.fence > held.fence for lease in later), "fences never go back, not even by a crash"
        assert await leases.settle(conn, [run_row(held)], []) == {held.run_id}


async def test_workers_and_schedulers_outlive_the_database(state_dir: Path, tmp_path: Path) -> None:
    """Work goes on after a crash of the server, without a restart of any process and with nothing lost."""
    server = start(state_dir)
    migrations.upgrade(server.url)
    accepted: set[UUID] = set()
    asking = asyncio.Event()

    async def ask() -> None:
        """An application that queues work all the time, and remembers what was acknowledged."""
        while not asking.is_set():
            try:
                async with await db.connect(server.url, "application") as application:
                    while not asking.is_set():
                        accepted.add(await queue(application, task))
            except (StoreUnavailable, psycopg.OperationalError):
                await poll_until(lambda: embedded.status(state_dir), timeout=180)

    async with await db.connect(server.url, "test") as conn:
        again = {"max_attempts": 100, "backoff": "fixed", "delay": "200ms"}
        steps = [step("one", "sql.query", with_={"sql": "SELECT pg_sleep(0.01)::text"})]
        task = await make_task(conn, steps=steps, retry=again)
        await make_task(conn, "ticking", schedule={"every": "1s"})
    async with crew_of(settings_for(server.url), tmp_path) as crew:
        await crew.worker(), await crew.worker(), await crew.scheduler()
        application = asyncio.create_task(ask())
        async with await db.connect(server.url, "test") as conn:
            await until(conn, "SELECT FROM duework.task_run HAVING count(*) > 50")
        await crash(state_dir, server)
        server = start(state_dir)
        before = len(accepted)
        await poll_until(lambda: len(accepted) > before)
        asking.set()
        await application
        async with await db.connect(server.url, "test") as conn:
            await until(
                conn,
                "SELECT WHERE NOT EXISTS (SELECT FROM duework.due_work WHERE trigger = 'run_now')",
                timeout=180,
            )
            ended = await rows(
                conn, "SELECT run_id, status, error FROM duework.runs WHERE trigger = 'run_now'"
            )
            recent = "SELECT FROM duework.task_run WHERE trigger = 'schedule' AND finished_at > %s"
            await until(conn, recent, await db.clock(conn))
        assert all(member.process.poll() is None for member in crew.members)
    assert [row for row in ended if row["status"] != "succeeded"] == []
    assert accepted <= {row["run_id"] for row in ended}
    assert len({row["run_id"] for row in ended}) == len(ended)
