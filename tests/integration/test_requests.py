"""What applications ask for by SQL: nothing is lost, nothing runs twice, and nothing unchecked runs at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors as pg
from psycopg import sql
from psycopg.types.json import Jsonb

from engine import db, door
from engine.db import Connection, Row
from engine.errors import GateUnavailable
from engine.metrics import Metrics
from engine.store import leases, requests, tasks
from tests.factories import dump, lease_one, make_task, one, queue, rows, step, until
from tests.postgres import connect
from tests.processes import Crew, settings_for
from workers import requested
from workers.requested import RequestCheck

RUN = "SELECT duework.run_now('job', %s::jsonb)"
SEEN = "SELECT status, params, error, attempt, trigger FROM duework.runs WHERE run_id = %s"
LATE_RUN = """
INSERT INTO duework.request (number, kind, actor, task_id) OVERRIDING SYSTEM VALUE VALUES (1, 'run_now', 'x', %s)
RETURNING id
"""
LATE_CANCEL = """
INSERT INTO duework.request (number, kind, actor, run_id) OVERRIDING SYSTEM VALUE VALUES (1, 'cancel', 'x', %s)
RETURNING id
"""
PRIVATE = "ada@example.org"
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 3}},
}


@pytest.fixture
async def check(database_url: str) -> AsyncIterator[RequestCheck]:
    """What a worker does with requests."""
    settings = settings_for(database_url)
    async with db.pool(settings, "check", size=3) as pool:
        yield RequestCheck(settings, pool, Metrics())


async def ask(conn: Connection, params: Any = None) -> UUID:
    """Ask for a run of `job`; its id."""
    run_id: UUID = await one(conn, RUN, None if params is None else json.dumps(params))
    return run_id


async def seen(conn: Connection, run_id: UUID) -> Row:
    """The run as its history has it."""
    (row,) = await rows(conn, SEEN, run_id)
    return row


async def test_a_run_is_there_from_the_commit_that_asked_for_it(conn: Connection) -> None:
    """Its id is known at once; what it was given is not shown before anybody has checked it."""
    await make_task(conn)
    async with conn.transaction(force_rollback=True):
        lost = await ask(conn)
    run_id = await ask(conn, {"a": 1})
    assert await seen(conn, run_id) == {
        "status": "queued",
        "params": None,
        "error": None,
        "attempt": 0,
        "trigger": "run_now",
    }
    assert await rows(conn, SEEN, lost) == []
    assert await leases.lease(conn, "w", 9, timedelta(seconds=9)) == []


async def test_a_request_becomes_work(conn: Connection, check: RequestCheck) -> None:
    """Under the id that was promised, with the schema's defaults, the wanted priority and the concurrency key."""
    await make_task(
        conn,
        params_schema=CITY,
        concurrency={"key": "${params.city}", "limit": 1},
        steps=[step("only", with_={"message": "${params.city}"})],
    )
    run_id = await one(
        conn, "SELECT duework.run_now('job', '{\"city\": \"Oslo\"}', now() - interval '1 s', 2)"
    )
    await check.look()
    lease = await lease_one(conn)
    assert (lease.run_id, lease.params) == (run_id, {"city": "Oslo", "days": 3})
    (row,) = await rows(conn, "SELECT priority, concurrency_key FROM duework.due_work")
    assert row["priority"] == 2
    assert row["concurrency_key"].endswith("Oslo")
    assert await one(conn, "SELECT count(*) FROM duework.request") == 0
    told = await rows(conn, "SELECT actor, subject FROM duework.audit WHERE action = 'run.requested'")
    assert told == [{"actor": f"sql:{conn.info.user}", "subject": f"run:{run_id}"}]


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({"city": 7}, "failed", "validation_failed"),
        ({"city": f"write to {PRIVATE}"}, "blocked", "gate_blocked"),
        ({f"for {PRIVATE}": "a"}, "blocked", "gate_blocked"),
        ({"city": {"at": PRIVATE}}, "failed", "validation_failed"),
    ],
)
async def test_what_is_refused_says_so_and_leaves_nothing(
    conn: Connection, check: RequestCheck, params: Any, status: str, code: str
) -> None:
    """The run ends in history without an attempt; the value is in no table any more."""
    await make_task(conn, params_schema=CITY)
    run_id = await ask(conn, params)
    await check.look()
    row = await seen(conn, run_id)
    assert (row["status"], row["error"]["code"], row["params"], row["attempt"]) == (status, code, None, 0)
    tables = [row["name"] for row in await rows(
        conn, "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'duework'")]  # fmt: skip
    assert PRIVATE not in str(await dump(conn, *tables))
    verdicts = await rows(conn, "SELECT tool FROM duework.verdicts")
    assert verdicts == ([{"tool": "sql:run_now"}] if status == "blocked" else [])
    assert await leases.lease(conn, "w", 9, timedelta(seconds=9)) == []


@pytest.mark.parametrize(
    ("statement", "error", "words"),
    [
        ("run_now('nobody')", pg.NoDataFound, "there is no task 'nobody'"),
        ("run_now(NULL)", pg.NoDataFound, "there is no task NULL"),
        ("run_now('gone')", pg.ObjectNotInPrerequisiteState, "'gone' is canceled"),
        ("run_now('job', '[1]')", pg.InvalidParameterValue, "params must be an object, not array"),
        ("run_now('job', NULL, NULL, 10)", pg.InvalidParameterValue, "priority must be from 1"),
        ("run_now('job', NULL, 'infinity')", pg.InvalidParameterValue, "run_at"),
        ("publish('')", pg.InvalidParameterValue, "a topic is words"),
        ("publish('a.b c')", pg.InvalidParameterValue, "a topic is words"),
        ("publish('a', '7')", pg.InvalidParameterValue, "the payload must be an object, not number"),
        ("publish('a', NULL)", pg.InvalidParameterValue, "the payload must be an object, not NULL"),
        ("publish('a', '{}', repeat('x', 501))", pg.InvalidParameterValue, "source"),
        ("cancel(NULL)", pg.NullValueNotAllowed, "cancel needs a run_id"),
    ],
)
async def test_what_can_be_told_at_once_is(
    conn: Connection, statement: str, error: type[Exception], words: str
) -> None:
    """A request that could never be granted is an error in the caller's own transaction."""
    await make_task(conn)
    task = await make_task(conn, "gone")
    await conn.execute(
        "UPDATE duework.task SET status = 'canceled', next_run = NULL WHERE id = %s", [task["id"]]
    )
    with pytest.raises(error, match=words):
        await rows(conn, f"SELECT duework.{statement}")
    assert await one(conn, "SELECT count(*) FROM duework.request") == 0


async def test_a_task_that_was_canceled_meanwhile_runs_nothing(conn: Connection, check: RequestCheck) -> None:
    """The request was granted a place in the history, and that says why."""
    task = await make_task(conn)
    run_id = await ask(conn)
    async with conn.transaction():
        await tasks.cancel(conn, task["id"], await db.clock(conn), None)
    await check.look()
    row = await seen(conn, run_id)
    assert (row["status"], row["error"]["code"]) == ("failed", "conflict")


async def test_a_run_can_be_taken_back_in_the_transaction_that_asked_for_it(
    conn: Connection, check: RequestCheck
) -> None:
    """Requests are answered in their order; the run never was work."""
    await make_task(conn)
    async with conn.transaction():
        run_id = await ask(conn)
        await rows(conn, "SELECT duework.cancel(%s, %s)", run_id, f"as {PRIVATE} asked")
    await check.look()
    row = await seen(conn, run_id)
    assert (row["status"], row["error"]) == (
        "canceled",
        {"code": "canceled", "message": "as [EMAIL] asked"},
    )


async def test_a_cancel_that_is_seen_before_its_run(conn: Connection, check: RequestCheck) -> None:
    """A run that was asked for long ago and committed late is taken back before anybody has checked it."""
    task = await make_task(conn)
    await check.look()
    await conn.execute("SELECT setval('duework.request_number_seq', %s)", [requested.BACK * 3])
    await ask(conn)
    await check.look()
    run_id = await one(conn, LATE_RUN, task["id"])
    await rows(conn, "SELECT duework.cancel(%s)", run_id)
    await check.look()
    assert (await seen(conn, run_id))["status"] == "canceled"
    assert await one(conn, "SELECT count(*) FROM duework.due_work WHERE id = %s", run_id) == 0
    assert await one(conn, "SELECT count(*) FROM duework.request") == 0


async def test_live_runs_end_and_ended_ones_stay(conn: Connection, check: RequestCheck) -> None:
    """One that waits ends here, one under way is told, one that has ended or never was is left alone."""
    task = await make_task(conn)
    leased = await queue(conn, task)
    lease = await lease_one(conn)
    waiting = await queue(conn, task)
    ended = await queue(conn, task)
    assert await leases.cancel(conn, ended, "before") == "canceled"
    for run_id in (leased, waiting, ended, uuid4()):
        await rows(conn, "SELECT duework.cancel(%s, 'enough')", run_id)
    await check.look()
    assert (await seen(conn, waiting))["error"]["message"] == "enough"
    assert (await seen(conn, ended))["error"]["message"] == "before"
    marked = "SELECT cancel_reason FROM duework.due_work WHERE id = %s"
    assert await one(conn, marked, lease.run_id) == "enough"
    told = await rows(conn, "SELECT subject FROM duework.audit WHERE action = 'run.canceled' ORDER BY id")
    assert [row["subject"] for row in told] == [f"run:{leased}", f"run:{waiting}"]


async def test_an_event_starts_who_waits_for_it(conn: Connection, check: RequestCheck) -> None:
    """Once, however often it is published under the same source and id, as the gate lets it through."""
    await make_task(conn, schedule={"event": {"topic": "order.*"}})
    publish = "SELECT duework.publish('order.paid', %s, 'shop', %s)"
    event_id = await one(conn, publish, Jsonb({"order": 7}), "o7")
    await one(conn, publish, Jsonb({"order": 7}), "o7")
    await one(conn, publish, Jsonb({"order": PRIVATE}), "o8")
    await one(conn, publish, Jsonb({"order": 9}), PRIVATE)
    await check.look()
    accepted = await rows(conn, "SELECT id, external_id, payload FROM duework.event ORDER BY external_id")
    assert [(row["external_id"], row["payload"]) for row in accepted] == [
        ("o7", {"order": 7}),
        ("o8", {"order": "[EMAIL]"}),
    ]
    assert accepted[0]["id"] == event_id
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 2
    assert await rows(conn, "SELECT tool FROM duework.verdicts") == [{"tool": "sql:publish"}]
    assert PRIVATE not in str(await dump(conn, "due_work", "event", "refusal", "request", "audit_log"))


async def test_a_run_that_another_stands_for_names_it(conn: Connection, check: RequestCheck) -> None:
    """The dedupe key is asked as it is over REST."""
    await make_task(conn, params_schema=CITY, dedupe={"key": "${params.city}", "window": "1h"})
    first, second = await ask(conn, {"city": "Oslo"}), await ask(conn, {"city": "Oslo"})
    await check.look()
    row = await seen(conn, second)
    assert (row["status"], row["error"]["code"]) == ("skipped", "deduplicated")
    assert str(first) in row["error"]["message"]
    assert (await lease_one(conn)).run_id == first


async def test_two_workers_take_each_request_once(conn: Connection, check: RequestCheck) -> None:
    """In batches that overlap in time."""
    await make_task(conn)
    async with conn.transaction():
        asked = {await ask(conn, {"n": number}) for number in range(3 * requested.BATCH // 2)}
    other = RequestCheck(settings_for(""), check.pool, check.metrics)
    await asyncio.gather(check.look(), other.look())
    await check.look()
    made = await rows(conn, "SELECT id FROM duework.due_work")
    assert len(made) == len(asked)
    assert {row["id"] for row in made} == asked


async def test_a_worker_that_dies_leaves_what_it_took(
    conn: Connection, database_url: str, check: RequestCheck
) -> None:
    """What an unfinished transaction took comes back when its connection is gone."""
    await make_task(conn)
    run_id = await ask(conn)
    dying = await db.connect(database_url, "dying")
    await dying.execute("BEGIN")
    assert [one.id for one in await requests.take(dying)] == [run_id]
    await check.look()
    assert (await seen(conn, run_id))["status"] == "queued"
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0
    await conn.execute("SELECT pg_terminate_backend(%s)", [dying.info.backend_pid])
    await until(conn, "SELECT 1 AS free FROM duework.request FOR UPDATE SKIP LOCKED")
    await check.look()
    assert (await lease_one(conn)).run_id == run_id
    await dying.close()


async def test_a_gate_that_does_not_answer_refuses_nothing(
    conn: Connection, check: RequestCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has to look at stays as it was, and goes through when the gate is back."""
    await make_task(conn)
    await ask(conn)
    run_id = await ask(conn, {"n": 1})

    def away(*_: Any, **__: Any) -> None:
        raise GateUnavailable("the gate is away")

    with monkeypatch.context() as patch:
        patch.setattr(door, "admit", away)
        with pytest.raises(GateUnavailable):
            await check.look()
    assert await one(conn, "SELECT count(*) FROM duework.request") == 1
    await check.look()
    assert run_id in {lease.run_id for lease in await leases.lease(conn, "w", 9, timedelta(seconds=9))}


async def test_one_that_commits_late_is_found(conn: Connection, check: RequestCheck) -> None:
    """A number from long before the last one seen is found by a look from the start."""
    await make_task(conn)
    await check.look()
    await conn.execute("SELECT setval('duework.request_number_seq', %s)", [requested.BACK * 3])
    await ask(conn)
    await check.look()
    await rows(conn, LATE_CANCEL, uuid4())
    await check.look()
    assert await one(conn, "SELECT count(*) FROM duework.request") == 1
    await RequestCheck(settings_for(""), check.pool, check.metrics).look()
    assert await one(conn, "SELECT count(*) FROM duework.request") == 0


@contextmanager
def application_of(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that acts as duework_application."""
    with closing(connect(url)) as conn:
        if conn.info.server_version < 160000:  # later ones let the creator of a role act as it
            conn.execute("GRANT duework_application TO CURRENT_USER")
        conn.execute("SET ROLE duework_application")
        yield conn


async def test_an_application_may_ask_and_nothing_else(conn: Connection, database_url: str) -> None:
    """Its role calls the three functions, whatever stands in its search_path, and reads and writes no table."""
    await make_task(conn)
    tables = await rows(conn, "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'duework'")
    with application_of(database_url) as app:
        app.execute("CREATE TEMP TABLE request (kind text)")
        app.execute("SET search_path = pg_temp, duework")
        for statement in (
            "SELECT duework.run_now('job')",
            "SELECT duework.publish('a.b')",
            "SELECT duework.cancel(gen_random_uuid())",
        ):
            app.execute(statement.encode())
        for table in tables:
            for verb in ("SELECT 1 FROM duework.{}", "DELETE FROM duework.{}"):
                refused = sql.SQL(verb).format(sql.Identifier(table["name"]))
                with pytest.raises(pg.InsufficientPrivilege):
                    app.execute(refused)
    assert await one(conn, "SELECT count(*) FROM duework.request") == 3


async def test_a_worker_answers_at_once(conn: Connection, crew: Crew) -> None:
    """From the application's commit to the run's end, in a worker process, without waiting for a poll."""
    await make_task(conn, steps=[step("only", with_={"message": "${params.city}"})])
    await crew.worker(poll_interval=timedelta(hours=1))
    run_id = await ask(conn, {"city": "Oslo"})
    ended = await until(
        conn, "SELECT status FROM duework.runs WHERE run_id = %s AND success IS NOT NULL", run_id
    )
    assert ended == [{"status": "succeeded"}]
