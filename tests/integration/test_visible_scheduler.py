"""A scheduler that is not running shows: in /ready, in the metrics and in `duework doctor`."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import timedelta

import pytest

from engine.db import Connection
from engine.settings import Settings
from engine.store import workers
from engine.store.workers import Process
from ops.cli.main import run
from tests.factories import make_task, until
from tests.integration.api.clients import client, running
from tests.processes import Crew

AGED = "UPDATE duework.scheduler SET last_tick = last_tick - interval '31 seconds'"


async def examined(capsys: pytest.CaptureFixture[str], what: str) -> tuple[str, str, str]:
    """The state, text and mend that doctor finds."""
    capsys.readouterr()  # what the API has logged
    await asyncio.to_thread(run, ["doctor", "--json"])
    (found,) = [each for each in json.loads(capsys.readouterr().out) if each["what"] == what]
    return found["state"], found["text"], found["mend"]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_a_scheduler_that_stopped_is_seen(
    conn: Connection,
    crew: Crew,
    database_url: str,
    end: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Killed or stopped, its absence is told with the way to mend it; another scheduler ends the alarm."""
    monkeypatch.setenv("DUEWORK_DATABASE_URL", database_url)
    settings = Settings(database_url=database_url, environment="development")
    async with running(settings) as app, client(app) as api:
        member = await crew.scheduler()
        assert (await api.get("/ready")).status_code == 200
        assert (await examined(capsys, "scheduler"))[0] == "ok"
        member.signal(end)
        await member.ended()
        await conn.execute(AGED)  # the database's clock cannot be moved, but what it has seen
        answer = await api.get("/ready")
        assert (answer.status_code, answer.json()["checks"]["scheduler"]) == (503, False)
        text = (await api.get("/metrics")).text
        (line,) = [each for each in text.splitlines() if each.startswith("duework_tick_age_seconds ")]
        assert float(line.split()[1]) > 30
        state, told, mend = await examined(capsys, "scheduler")
        assert state == "fail"
        assert ("ago" if end is signal.SIGKILL else "none is running") in told
        assert "run `duework scheduler`" in mend
        await crew.scheduler()
        assert (await api.get("/ready")).status_code == 200


async def test_a_scheduler_that_ticks_seldom_is_not_missed(conn: Connection, database_url: str) -> None:
    """Its own interval decides after how long it is late, and the metrics say after how long that is."""
    settings = Settings(database_url=database_url, environment="development")
    seldom = timedelta(minutes=3)
    await workers.beat_scheduler(conn, Process.here("scheduler"), seldom)
    async with running(settings) as app, client(app) as api:
        await conn.execute(AGED)
        assert (await api.get("/ready")).json()["checks"]["scheduler"] is True
        assert "duework_tick_late_after_seconds 180.0" in (await api.get("/metrics")).text
        await conn.execute("UPDATE duework.scheduler SET last_tick = last_tick - %s", [seldom])
        assert (await api.get("/ready")).json()["checks"]["scheduler"] is False


async def test_a_scheduler_that_hangs_is_seen(conn: Connection, crew: Crew) -> None:
    """A process that lives and does not tick, because somebody holds a lock, grows old like a dead one."""
    await make_task(conn, schedule={"every": "1s"})
    await crew.scheduler()
    async with conn.transaction():
        await conn.execute("LOCK TABLE duework.occurrence IN ACCESS EXCLUSIVE MODE")
        stuck = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'duework.occurrence'::regclass"
        await until(conn, stuck)
        # A tick that had its locks before ours may still commit; whoever ticks is never this old.
        old = "SELECT FROM duework.scheduler HAVING max(last_tick) < clock_timestamp() - interval '3 seconds'"
        await until(conn, old)


async def test_doctor_counts_tasks_of_other_zone_data(
    conn: Connection,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Older data is a scheduler's to mend, newer is this host's."""
    monkeypatch.setenv("DUEWORK_DATABASE_URL", database_url)
    await make_task(conn, schedule={"cron": "0 9 * * *"})
    assert (await examined(capsys, "zones"))[0] == "ok"
    await conn.execute("UPDATE duework.task SET tzdata_version = '2000a'")
    state, told, mend = await examined(capsys, "zones")
    assert (state, told.split()[0], "scheduler" in mend) == ("warn", "1", True)
    await conn.execute("UPDATE duework.task SET tzdata_version = '2999a'")
    state, told, mend = await examined(capsys, "zones")
    assert (state, told.split()[0], "upgrade" in mend) == ("warn", "1", True)
