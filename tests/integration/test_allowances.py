"""Marks of false positives as processes have them: fresh or not at all, ended by the database, in effect soon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from engine import db
from engine.db import Connection, Pool
from engine.errors import Conflict, NotFound
from engine.reflex.allowing import value_digest
from engine.reflex.digests import Match
from engine.settings import Settings
from engine.store import allowances, gate_key
from engine.store.allowances import FRESH_FOR, AllowList, Mark
from tests.factories import make_task, one, queue, step, until
from tests.polling import poll_until
from tests.processes import Crew, settings_for

EMAIL = "ada@example.org"
FOUND = Match("pii", "email", "email.address", "/to", EMAIL)
HOUR = timedelta(hours=1)
ENDED = "SELECT status FROM duework.runs WHERE run_id = %s AND status IN ('succeeded', 'blocked')"


class Clock:
    """Seconds that pass when the test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def settings(database_url: str) -> Settings:
    """A worker's settings on the test's own database."""
    return settings_for(database_url)


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[Pool]:
    """A process's pool."""
    async with db.pool(settings, "test", size=2) as made:
        yield made


async def marked(conn: Connection, settings: Settings, **members: object) -> None:
    """A mark for EMAIL."""
    digest = value_digest(await gate_key.load(conn, settings), EMAIL)
    given = {"reason": "test data", "author": "ada", "digest": digest} | members
    await allowances.add(conn, Mark(**given))  # type: ignore[arg-type]  # each test gives what fits


async def test_what_was_read_is_believed_for_a_while(
    conn: Connection, pool: Pool, settings: Settings
) -> None:
    """Nothing is allowed before the list was read, and nothing once it could not be read for too long."""
    clock = Clock()
    listed = AllowList(settings, pool, clock=clock)
    pardon = listed.pardon()
    await marked(conn, settings)
    assert not pardon(FOUND)
    await listed.look()
    assert pardon(FOUND)
    clock.now += FRESH_FOR.total_seconds() - 0.001
    assert pardon(FOUND)
    clock.now += 0.001
    assert not pardon(FOUND)
    await listed.look()
    assert pardon(FOUND)
    await conn.execute("UPDATE duework.allowance SET revoked_at = now(), revoked_by = 'ada'")
    await listed.look()
    assert not pardon(FOUND)


async def test_an_end_is_counted_off_from_what_the_database_said(
    conn: Connection, settings: Settings
) -> None:
    """The time that is left comes from the database; a mark whose end is past is not there at all."""
    await marked(conn, settings, ends=HOUR)
    await marked(conn, settings, ends=datetime(2030, 1, 1, tzinfo=UTC), kind="email")
    await marked(conn, settings)
    now = (await one(conn, "SELECT min(expires_at) FROM duework.allowance")) - timedelta(minutes=10)
    read = await allowances.standing(conn, 1000.0, now=now)
    assert read[0].until == 1600.0
    assert read[1].until is not None
    assert read[2].until is None
    late = await allowances.standing(conn, 1000.0, now=now + timedelta(minutes=10))
    assert len(late) == 2


async def test_their_number_is_bounded(
    conn: Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as MOST may stand; those that were revoked do not count."""
    monkeypatch.setattr(allowances, "MOST", 2)
    await marked(conn, settings)
    await marked(conn, settings)
    with pytest.raises(Conflict, match="2 allowances stand already"):
        await marked(conn, settings)
    first = (await allowances.page(conn))[-1]
    assert await allowances.revoke(conn, first["id"], "ada")
    assert not await allowances.revoke(conn, first["id"], "ada")
    await marked(conn, settings)
    with pytest.raises(NotFound):
        await allowances.revoke(conn, (await make_task(conn))["id"], "ada")


async def test_a_running_worker_goes_by_the_list(conn: Connection, crew: Crew, settings: Settings) -> None:
    """A step that was blocked passes once its value is marked for its task, and not in another; until it is revoked."""
    steps = [step("only", with_={"message": f"write to {EMAIL}"})]
    task, other = [await make_task(conn, name, steps) for name in ("mail", "other")]
    await crew.worker()

    async def ends(which: str) -> str:
        """How a new run ends."""
        run_id = await queue(conn, task if which == "mail" else other)
        (row,) = await until(conn, ENDED, run_id)
        return str(row["status"])

    async def in_effect(wanted: str) -> None:
        """A run ends so at last: the worker reads the list every two seconds."""

        async def seen() -> bool:
            return await ends("mail") == wanted

        await poll_until(seen)

    assert await ends("mail") == "blocked"
    await marked(conn, settings, task_id=task["id"])
    await in_effect("succeeded")
    assert await ends("other") == "blocked"
    await conn.execute("UPDATE duework.allowance SET revoked_at = now(), revoked_by = 'ada'")
    await in_effect("blocked")
