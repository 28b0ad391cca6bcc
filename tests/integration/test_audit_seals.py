"""The audit log's seals: whatever is done to what was written, a reader finds it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from psycopg.errors import RestrictViolation

from engine import db
from engine.db import Connection
from engine.store import audit
from ops.cli.main import run
from scheduler.retention import maintain
from scheduler.sealer import seal
from tests.factories import rows
from tests.processes import settings_for

LOG, SEAL = "audit_log", "audit_seal"


async def write(conn: Connection, *actions: str) -> None:
    """A line for each action, in one batch."""
    for action in actions:
        await audit.write(conn, "ada", action, "task:1", note=action)
    assert await audit.seal(conn) == len(actions)


async def three_batches(conn: Connection) -> None:
    """Six lines in three seals."""
    await write(conn, "a.one", "a.two", "a.three")
    await write(conn, "b.one", "b.two")
    await write(conn, "c.one")


async def tamper(conn: Connection, statement: str) -> None:
    """What somebody can do who owns the tables."""
    for table in (LOG, SEAL):
        await conn.execute(f"ALTER TABLE duework.{table} DISABLE TRIGGER ALL".encode())
    await conn.execute(statement.encode())
    for table in (LOG, SEAL):
        await conn.execute(f"ALTER TABLE duework.{table} ENABLE TRIGGER ALL".encode())


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE duework.audit_log SET actor = 'eve' WHERE action = 'b.one'", {2}),
        ("UPDATE duework.audit_log SET at = at - interval '1 us' WHERE action = 'b.one'", {2}),
        ("UPDATE duework.audit_log SET details = '{}' WHERE action = 'c.one'", {3}),
        ("UPDATE duework.audit_log SET request_id = 'x' WHERE action = 'a.three'", {1}),
        ("UPDATE duework.audit_log SET id = DEFAULT WHERE action = 'a.one'", {1}),
        ("UPDATE duework.audit_log SET seal = 3 WHERE action = 'b.one'", {2, 3}),
        ("UPDATE duework.audit_log SET seal = NULL WHERE action = 'b.one'", {2}),
        ("DELETE FROM duework.audit_log WHERE action = 'b.two'", {2}),
        ("INSERT INTO duework.audit_log (actor, action, subject, seal) VALUES ('e', 'x', 'y', 1)", {1}),
        ("DELETE FROM duework.audit_seal WHERE number = 2", {2, 3}),
        ("DELETE FROM duework.audit_seal WHERE number = 3", {3}),
        ("DELETE FROM duework.audit_seal WHERE number = 1", {1, 2}),
        ("UPDATE duework.audit_seal SET digest = sha256('x') WHERE number = 2", {2, 3}),
        ("UPDATE duework.audit_seal SET previous = sha256('x') WHERE number = 2", {2}),
        ("UPDATE duework.audit_seal SET lines = 9 WHERE number = 2", {2}),
        (
            "WITH gone AS (DELETE FROM duework.audit_log WHERE seal = 2) "
            "DELETE FROM duework.audit_seal WHERE number = 2",
            {3},
        ),
    ],
)
async def test_whatever_is_done_is_found(conn: Connection, statement: str, found: set[int]) -> None:
    """A line changed, taken out or slipped in, and a seal likewise; the seals named are those that do not fit."""
    await three_batches(conn)
    assert await audit.faults(conn) == []
    await tamper(conn, statement)
    assert {row["number"] for row in await audit.faults(conn)} == found


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE duework.audit_log SET actor = 'eve'",
        "UPDATE duework.audit_log SET seal = 9 WHERE action = 'c.one'",
        "DELETE FROM duework.audit_log",
        "TRUNCATE duework.audit_log",
        "UPDATE duework.audit_seal SET digest = sha256('x')",
        "UPDATE duework.audit_seal SET dropped_at = now(), lines = 1",
        "DELETE FROM duework.audit_seal",
        "TRUNCATE duework.audit_seal",
        "UPDATE duework.audit_log SET seal = 1, actor = 'eve' WHERE seal IS NULL",
        "UPDATE duework.audit_log SET seal = 1 WHERE seal IS NULL",
    ],
)
async def test_the_log_refuses_to_be_changed(conn: Connection, statement: str) -> None:
    """Each of these is an error, for the owner too, until the triggers are taken away."""
    await three_batches(conn)
    await audit.write(conn, "ada", "d.one", "task:1")
    with pytest.raises(RestrictViolation, match="append-only"):
        await rows(conn, statement)
    assert await audit.faults(conn) == []


async def test_a_line_is_of_now_and_not_sealed(conn: Connection) -> None:
    """Nobody writes into the past, nor into a batch that is closed."""
    await conn.execute(
        "INSERT INTO duework.audit_log (at, actor, action, subject, seal) VALUES ('2000-01-01Z', 'e', 'x', 'y', 1)"
    )
    (row,) = await rows(conn, "SELECT at > now() - interval '1 hour' AS fresh, seal FROM duework.audit_log")
    assert row == {"fresh": True, "seal": None}


async def test_a_long_transaction_keeps_no_seal_waiting(conn: Connection, database_url: str) -> None:
    """Lines that commit later than younger ones are sealed later, and none is passed over."""
    async with await db.connect(database_url, "slow") as slow:
        async with slow.transaction():
            await audit.write(slow, "ada", "slow.one", "task:1")
            await write(conn, "quick.one")
        assert await audit.seal(conn) == 1
    sealed = await rows(conn, "SELECT action, seal FROM duework.audit ORDER BY id")
    assert sealed == [{"action": "slow.one", "seal": 2}, {"action": "quick.one", "seal": 1}]
    assert await audit.faults(conn) == []


async def test_many_sealers_and_writers_make_one_chain(conn: Connection, database_url: str) -> None:
    """Each line is in one seal, and the seals follow each other."""
    async with db.pool(settings_for(database_url), "many", size=6) as pool:

        async def writer() -> None:
            for number in range(20):
                async with db.transaction(pool) as each:
                    await audit.write(each, "ada", "a.line", "task:1", number=number)

        async def sealer() -> None:
            for _ in range(20):
                await seal(pool)

        await asyncio.gather(*(writer() for _ in range(3)), *(sealer() for _ in range(3)))
        await seal(pool)
    told = await audit.head(conn)
    assert (told["lines"], told["unsealed"]) == (60, 0)
    assert await audit.faults(conn) == []


async def test_lines_dropped_by_age_leave_their_seals(conn: Connection) -> None:
    """What is left is held against them; a batch that was tampered with is not covered up."""
    await three_batches(conn)
    await tamper(conn, "UPDATE duework.audit_log SET actor = 'eve' WHERE action = 'b.one'")
    assert await audit.drop(conn, timedelta(hours=1)) == 0
    assert await audit.drop(conn, timedelta(0)) == 3
    assert await audit.seal(conn) == 1
    left = await rows(conn, "SELECT action FROM duework.audit ORDER BY id")
    assert [row["action"] for row in left] == ["b.one", "b.two", "c.one", "audit.dropped"]
    assert [row["number"] for row in await audit.faults(conn)] == [2]
    await tamper(conn, "DELETE FROM duework.audit_seal WHERE number = 1")
    assert {row["number"] for row in await audit.faults(conn)} == {2}


async def test_nothing_hides_in_a_batch_that_was_dropped(conn: Connection) -> None:
    """A line cannot be put there to be deleted with it; and one that the owner put there is found."""
    await three_batches(conn)
    assert await audit.drop(conn, timedelta(0)) == 6
    for statement in (
        "UPDATE duework.audit_log SET seal = 2 WHERE action = 'audit.dropped'",
        "DELETE FROM duework.audit_log WHERE action = 'audit.dropped'",
    ):
        with pytest.raises(RestrictViolation, match="append-only"):
            await rows(conn, statement)
    await tamper(conn, "UPDATE duework.audit_log SET seal = 2 WHERE action = 'audit.dropped'")
    assert await audit.faults(conn) == [{"number": 2, "fault": "1 lines instead of 0"}]


async def test_the_past_is_dropped_in_parts(conn: Connection, database_url: str) -> None:
    """However much of it there is, no statement takes longer than it may; retention goes on to the end."""
    many = "INSERT INTO duework.audit_log (actor, action, subject) SELECT 'a', 'b.c', 'd' FROM generate_series(1, %s)"
    await conn.execute(many, [30_000])
    while await audit.seal(conn, limit=10_000):
        pass
    assert await audit.drop(conn, timedelta(0)) == 20_000
    settings = settings_for(database_url, audit_retention=timedelta(microseconds=1))
    async with db.pool(settings, "retention", size=1) as pool:
        await maintain(pool, settings)
    left = await rows(conn, "SELECT DISTINCT action FROM duework.audit")
    assert left == [{"action": "audit.dropped"}]
    assert await audit.faults(conn) == []


async def test_a_seal_reads_what_it_seals_and_not_the_log(conn: Connection) -> None:
    """Lines that are sealed already are looked at no more, however many there are."""
    many = "INSERT INTO duework.audit_log (actor, action, subject) SELECT 'a', 'b.c', 'd' FROM generate_series(1, %s)"
    await conn.execute(many, [10_000])
    while await audit.seal(conn, limit=200):
        pass
    await conn.execute("ANALYZE duework.audit_log")
    scans = "SELECT pg_stat_get_xact_numscans('duework.audit_log'::regclass) AS scans"
    read = "SELECT pg_stat_get_xact_tuples_returned('duework.audit_log'::regclass) AS lines"
    async with conn.transaction():
        await audit.write(conn, "ada", "d.one", "task:1")
        await audit.write(conn, "ada", "d.two", "task:1")
        assert await audit.seal(conn) == 2
        assert await rows(conn, scans) == [{"scans": 0}]
        assert await rows(conn, read) == [{"lines": 0}]


async def test_the_command_finds_a_log_that_was_written_anew(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seals and all: the head that was kept elsewhere does not fit any more."""
    monkeypatch.setenv("DUEWORK_DATABASE_URL", database_url)

    async def verify(*words: str) -> tuple[int, dict[str, Any]]:
        code = await asyncio.to_thread(run, ["audit", "verify", "-o", "json", *words])
        return code, json.loads(capsys.readouterr().out)

    await three_batches(conn)
    code, told = await verify()
    assert (code, told["lines"], told["seals"], told["unsealed"], told["faults"]) == (0, 6, 3, 0, [])
    kept = told["head"]
    await write(conn, "d.one")
    assert (await verify("--expect", kept))[0] == 0
    await tamper(conn, "TRUNCATE duework.audit_log, duework.audit_seal")
    for action in ("x.one", "x.two", "x.three"):
        await write(conn, action)
    assert (await verify())[0] == 0
    code, told = await verify("--expect", kept)
    assert (code, [fault["number"] for fault in told["faults"]]) == (1, [3])
    assert await asyncio.to_thread(run, ["audit", "verify", "--expect", "3:abc"]) == 3
    assert "not NUMBER:DIGEST" in capsys.readouterr().err
