"""Scopes at run time: what was taken from an author since the definition was stored counts for every run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from engine import db
from engine.db import Connection, Pool, Row
from engine.errors import AuthorizationFailed
from engine.pipeline import parse_definition
from engine.plan import Plan, prepare
from engine.settings import Settings
from engine.store import agents, tasks
from engine.tools.registry import load_catalog
from tests.factories import document, step
from tests.processes import settings_for
from workers import permits
from workers.permits import Permits

STEPS = [step("ask", "sql.query", with_={"sql": "SELECT 1 AS n"})]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with db.pool(settings_for(database_url), "test", size=2) as made:
        yield made


def plan() -> Plan:
    return prepare(parse_definition(document(steps=STEPS)), load_catalog(Settings()))


async def authored(conn: Connection, *scopes: str) -> tuple[Row, Row]:
    """A task that calls sql.query, and the agent that wrote it."""
    author = await agents.create(conn, "author", scopes)
    async with conn.transaction():
        definition = parse_definition(document(steps=STEPS))
        return await tasks.create(conn, definition, "job", await db.clock(conn), author=author["id"]), author


async def check(pool: Pool, task_id: UUID, version: int = 1) -> None:
    await Permits(pool).check(task_id, version, plan())


async def test_an_author_with_the_scopes_may(conn: Connection, pool: Pool) -> None:
    """By the scope itself, or by a prefix."""
    task, author = await authored(conn, "tool:sql.query")
    await check(pool, task["id"])
    await agents.change(conn, author["id"], scopes=["tool:sql.*"])
    await check(pool, task["id"])


async def test_what_was_revoked_counts(conn: Connection, pool: Pool) -> None:
    """The scope is named, and the way to mend it."""
    task, author = await authored(conn, "tool:sql.query")
    await agents.change(conn, author["id"], scopes=["task:write"])
    with pytest.raises(
        AuthorizationFailed, match=r"'author'.*no longer holds the scope 'tool:sql\.query'"
    ) as refused:
        await check(pool, task["id"])
    assert (refused.value.status, refused.value.retryable) == (403, False)


async def test_an_inactive_author_holds_nothing(conn: Connection, pool: Pool) -> None:
    """Tasks do not go on in the name of whoever is gone."""
    task, author = await authored(conn, "tool:sql.query")
    await agents.change(conn, author["id"], active=False)
    with pytest.raises(AuthorizationFailed):
        await check(pool, task["id"])


async def test_an_author_who_was_deleted_holds_nothing(conn: Connection, pool: Pool) -> None:
    """An agent whose row is gone has written nothing as the owner of the database."""
    task, author = await authored(conn, "tool:sql.query")
    await conn.execute(b"DELETE FROM duework.agent WHERE id = %s", [author["id"]])
    with pytest.raises(AuthorizationFailed):
        await check(pool, task["id"])


async def test_a_version_without_an_author_is_the_owners(conn: Connection, pool: Pool) -> None:
    """Who writes definitions by SQL owns the database."""
    task, _ = await authored(conn)
    await conn.execute(b"UPDATE duework.task_version SET author = NULL")
    await check(pool, task["id"])


async def test_an_answer_counts_for_a_while(
    conn: Connection, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that runs of a busy task do not ask for each of them."""
    task, author = await authored(conn, "tool:sql.query")
    known = Permits(pool)
    await known.check(task["id"], 1, plan())
    await agents.change(conn, author["id"], scopes=[])
    await known.check(task["id"], 1, plan())
    monkeypatch.setattr(permits, "TTL", -1.0)
    with pytest.raises(AuthorizationFailed):
        await known.check(task["id"], 1, plan())
