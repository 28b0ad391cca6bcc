"""Requests that nobody should make: each ends by itself, and none keeps the others from being answered."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from engine import db, door
from engine.db import Connection
from engine.errors import GateUnavailable
from engine.metrics import Metrics
from tests.factories import lease_one, make_task, one, rows
from tests.processes import settings_for
from workers import requested
from workers.requested import RequestCheck

RUN = "SELECT duework.run_now('job', %s::jsonb)"
ENDED = "SELECT status, error ->> 'code' AS code, error ->> 'message' AS message FROM duework.runs WHERE run_id = %s"
LEFT = "SELECT count(*) FROM duework.request"
MEGABYTE = 1_048_576


@pytest.fixture
async def check(database_url: str) -> AsyncIterator[RequestCheck]:
    """What a worker does with requests."""
    settings = settings_for(database_url)
    async with db.pool(settings, "check", size=3) as pool:
        yield RequestCheck(settings, pool, Metrics())


def nested(levels: int) -> str:
    """An object with lists within lists."""
    return '{"a": ' + "[" * levels + "]" * levels + "}"


def incompressible(length: int) -> str:
    """Text of signs that have four bytes each."""
    drawn = random.Random(length)
    return "".join(chr(drawn.randrange(0x20000, 0x2A6D0)) for _ in range(length))


@pytest.mark.parametrize(
    "params",
    ['{"a": 1e5000}', '{"a": ' + "9" * 400 + ".5}", nested(3000), nested(400)],
    ids=["an integer of many digits", "a number beyond a double", "very deep", "deep"],
)
async def test_what_only_jsonb_can_hold_is_refused_alone(
    conn: Connection, check: RequestCheck, params: str
) -> None:
    """As parameters and as a payload; the request behind it becomes work in the same round."""
    await make_task(conn)
    run_id = await one(conn, RUN, params)
    await one(conn, "SELECT duework.publish('a.b', %s::jsonb)", params)
    good = await one(conn, RUN, '{"b": 1}')
    await check.look()
    (ended,) = await rows(conn, ENDED, run_id)
    assert (ended["status"], ended["code"]) == ("failed", "validation_failed")
    assert "the parameters cannot be" in ended["message"]
    assert (await lease_one(conn)).run_id == good
    assert await one(conn, LEFT) == 0


async def test_names_that_fit_no_index_are_refused_alone(conn: Connection, check: RequestCheck) -> None:
    """PostgreSQL says so as late as the insert; the audit log says that the event was refused."""
    await make_task(conn)
    await one(conn, "SELECT duework.publish('a.b', '{}', %s, %s)", incompressible(500), incompressible(255))
    good = await one(conn, RUN, '{"b": 1}')
    await check.look()
    assert (await lease_one(conn)).run_id == good
    told = await rows(conn, "SELECT details FROM duework.audit WHERE action = 'request.refused'")
    assert [line["details"]["code"] for line in told] == ["validation_failed"]


@pytest.mark.parametrize("defect", [KeyError("the-value"), psycopg.DataError("the-value"), RecursionError()])
async def test_a_defect_ends_one_request(
    conn: Connection, check: RequestCheck, monkeypatch: pytest.MonkeyPatch, defect: Exception
) -> None:
    """Whatever is raised for one request; what is told of it holds no message, which might quote a value."""
    await make_task(conn)
    bad, good = await one(conn, RUN, '{"bad": 1}'), await one(conn, RUN, '{"b": 1}')
    if isinstance(defect, psycopg.Error):
        defect.sqlstate = "22P02"
    _admitted_but(monkeypatch, "bad", defect)
    await check.look()
    (ended,) = await rows(conn, ENDED, bad)
    assert ended["status"] == "failed"
    assert "the-value" not in str(ended)
    assert (await lease_one(conn)).run_id == good


async def test_what_waits_for_the_gate_holds_up_nothing_else(
    conn: Connection, check: RequestCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that the gate cannot answer for now, be it the first of many, and a deadlock, stay as they are."""
    monkeypatch.setattr(requested, "BATCH", 3)
    await make_task(conn)
    asked = [await one(conn, RUN, params) for params in ('{"bad": 1}', '{"bad": 2}', '{"b": 1}', '{"b": 2}')]
    for error in (GateUnavailable("away"), pg.DeadlockDetected("deadlock")):
        with monkeypatch.context() as patch:
            _admitted_but(patch, "bad", error)
            with pytest.raises(type(error)):
                await check.look()
        assert await one(conn, LEFT) == 2
    await one(conn, "SELECT duework.cancel(%s)", asked[3])
    await check.look()
    queued = {row["id"] for row in await rows(conn, "SELECT id FROM duework.due_work")}
    assert queued == set(asked[:3])


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("SELECT duework.run_now('job', jsonb_build_object('a', %s::text))", "x" * MEGABYTE),
        ("SELECT duework.publish('a.b', jsonb_build_object('a', %s::text))", "x" * MEGABYTE),
        ("SELECT duework.publish('a.b', '{\"secret\": 1}', %s)", "x" * 501),
        ("SELECT duework.publish('a.b', '{\"secret\": 1}', %s)", ""),
        ("SELECT duework.publish('a.b', '{\"secret\": 1}', 's', %s)", "x" * 256),
        ("SELECT duework.publish(%s, '{\"secret\": 1}')", "x" * 201),
        ("SELECT duework.run_now('job', '{\"secret\": 1}', %s::timestamptz)", "infinity"),
        ("SELECT duework.cancel(duework.uuidv7(), %s)", "x" * 2001),
    ],
)
async def test_limits_are_said_without_the_row(conn: Connection, statement: str, value: str) -> None:
    """In the caller's own transaction, and not as a constraint's complaint, which would be logged with the row."""
    await make_task(conn)
    with pytest.raises((pg.InvalidParameterValue, pg.ProgramLimitExceeded)) as refused:
        await one(conn, statement, value)
    assert refused.value.diag.message_detail is None
    assert await one(conn, LEFT) == 0


def _admitted_but(patch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    """The gate lets everything through but what holds `name`: then it raises `error`."""

    async def admit(_: Metrics, value: Any, *__: Any, **___: Any) -> Any:
        if isinstance(value, Mapping) and name in value:
            raise error
        return value

    patch.setattr(door, "admit", admit)
