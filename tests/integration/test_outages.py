"""Six hours without schedulers, without workers, without both: the policies decide, nothing floods, all is told."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest

from engine import db
from engine.db import Connection, Row
from engine.store import leases, ledger, tasks
from scheduler.tick import COUNTED_AT_ONCE, tick
from tests.factories import make_task, one, rows, run_row

T0 = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
HORIZON = GRACE = timedelta(seconds=30)
OUTAGE = 6 * HOUR
BACK = T0 + OUTAGE + SECOND / 2
NOON = T0 + OUTAGE
SPARSE: dict[str, Any] = {"cron": "*/30 * * * *"}
DENSE: dict[str, Any] = {"every": "1s"}
ALL = {"policy": "all", "max": 5, "window": "2h"}
POLICIES: dict[str, dict[str, Any]] = {"none": {"policy": "none"}, "last": {"policy": "last"}, "all": ALL}


async def scheduler(conn: Connection, now: datetime) -> None:
    """What a scheduler does at `now`: tick until nothing is due, and reap."""
    more = True
    while more:
        async with conn.transaction():
            more = (await tick(conn, HORIZON, GRACE, 100, now=now)).more
    while await leases.expire(conn, now=now):
        pass
    await leases.promote(conn, now=now)


async def worker(conn: Connection, now: datetime) -> list[datetime]:
    """What a worker does at `now`: run everything that is due; which instants those were."""
    ran: list[datetime] = []
    while held := await leases.lease(conn, "w1", 500, HOUR, now=now):
        await leases.settle(conn, [run_row(lease) for lease in held], [])
        ran += [lease.scheduled_for for lease in held if lease.scheduled_for]
    return ran


async def outage(conn: Connection, schedulers: bool, workers: bool, step: timedelta) -> list[datetime]:
    """Six hours in which only those processes work that are told, then one moment in which both do."""
    now = T0
    while now + step < BACK:
        now += step
        if schedulers:
            await scheduler(conn, now)
        if workers:
            await worker(conn, now)
    await scheduler(conn, BACK)
    return await worker(conn, BACK)


async def told(conn: Connection, task: Row) -> Counter[datetime]:
    """Every instant of the ledger up to the end, ranges spelt out."""
    schedule = ledger.schedule_from(await tasks.get(conn, task["id"]))
    found: Counter[datetime] = Counter()
    for row in await rows(conn, "SELECT * FROM duework.occurrence WHERE task_id = %s", task["id"]):
        first = row["scheduled_for"]
        found.update(schedule.next(first - SECOND / 1000, row["count"]))
    return found


async def check(conn: Connection, task: Row, since: datetime = T0) -> None:
    """Each instant after `since` once, until where the scheduler has come to."""
    current = await tasks.get(conn, task["id"])
    schedule = ledger.schedule_from(current)
    listed = [at for at in schedule.next(since, 30_000) if at < current["next_run"]]
    assert await told(conn, task) == Counter(listed)
    assert current["next_run"] > BACK + HORIZON


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("schedulers", "workers"),
    [(False, True), (True, False), (False, False)],
    ids=["scheduler", "worker", "both"],
)
async def test_a_sparse_task(conn: Connection, policy: str, schedulers: bool, workers: bool) -> None:
    """A task of every half hour: afterwards as many late runs start as its policy says, whichever part was down."""
    schedule = SPARSE | {"catchup": POLICIES[policy]}
    task = await make_task(conn, schedule=schedule, now=T0 + SECOND)
    ran = await outage(conn, schedulers, workers, 10 * HOUR / 60)
    late = [at for at in ran if at < NOON]
    assert ran[-1:] == [NOON], "what is due now runs"
    # Under `last` the instant of now has taken the place of the one before.
    assert len(late) == {"none": 0, "last": 0, "all": 3}[policy]
    assert late == [NOON - n * HOUR / 2 for n in range(len(late), 0, -1)]
    await check(conn, task)
    missed = await one(conn, "SELECT sum(count) FROM duework.occurrence WHERE disposition = 'missed'")
    assert missed == 11 - len(late)
    assert await one(conn, "SELECT count(*) FROM duework.occurrence") <= 13


@pytest.mark.parametrize(("policy", "late"), [("none", 0), ("last", 1), ("all", 4)])
@pytest.mark.parametrize("part", ["schedulers", "workers"])
async def test_back_between_two_instants(conn: Connection, policy: str, late: int, part: str) -> None:
    """Ten minutes after an instant `last` still runs it, for none has come since."""
    schedule = {
        "cron": "50 * * * *",
        "catchup": POLICIES[policy] | ({"window": "4h"} if policy == "all" else {}),
    }
    await make_task(conn, schedule=schedule, now=T0)
    ran = await outage(conn, part == "workers", part == "schedulers", HOUR / 6)
    assert len(ran) == late
    assert ran == [NOON - HOUR / 6 - n * HOUR for n in reversed(range(late))]


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_dense_task_without_schedulers(conn: Connection, policy: str) -> None:
    """21,600 seconds that nobody came to are one row; what starts is what the grace calls on time."""
    task = await make_task(conn, schedule=DENSE | {"catchup": POLICIES[policy]}, now=T0)
    ran = await outage(conn, schedulers=False, workers=True, step=OUTAGE / 2)
    assert ran == [NOON - n * SECOND for n in range(29, -1, -1)]
    await check(conn, task)
    assert await one(conn, "SELECT count(*) FROM duework.occurrence WHERE run_id IS NULL") == 1


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_dense_task_without_workers(conn: Connection, policy: str) -> None:
    """The queue holds no more than the grace and the horizon, all the time; the rest is told as missed."""
    task = await make_task(conn, schedule=DENSE | {"catchup": POLICIES[policy]}, now=NOON - HOUR / 6)
    now, most = NOON - HOUR / 6, 0
    while now < BACK:
        now = min(now + 20 * SECOND, BACK)
        await scheduler(conn, now)
        most = max(most, await one(conn, "SELECT count(*) FROM duework.due_work"))
    assert most <= 2 * 30 + 2
    ran = await worker(conn, BACK)
    assert len(ran) <= 31
    assert ran[-1] == NOON
    missed = await one(conn, "SELECT count(*) FROM duework.occurrence WHERE disposition = 'missed'")
    assert missed == 600 - len(ran)
    await check(conn, task, NOON - HOUR / 6)


async def test_very_many_dense_tasks_do_not_block_the_tick(conn: Connection) -> None:
    """A thousand tasks of every second after six hours: few statements, few instants drawn, one range each."""
    await conn.execute(
        "INSERT INTO duework.task (name, title, schedule_kind, schedule_expr, schedule_start, payload, next_run,"
        " tzdata_version) SELECT 't' || g, 't', CASE WHEN g %% 2 = 0 THEN 'rrule' ELSE 'every' END,"
        " CASE WHEN g %% 2 = 0 THEN 'FREQ=SECONDLY' ELSE '1s' END, '2026-01-01', '{}', %s, '2999a'"
        " FROM generate_series(1, 1000) g",
        [T0],
    )
    sent: Counter[str] = Counter()
    read = db.query

    def counted(name: str) -> bytes:
        sent[name] += 1
        return read(name)

    with mock.patch.object(db, "query", counted):
        ticks = 0
        more = True
        while more:
            async with conn.transaction():
                more = (await tick(conn, HORIZON, GRACE, 500, now=BACK)).more
            ticks += 1
    assert ticks == 3
    assert sent["insert_ranges"] == 2, "one statement for the ranges of a batch"
    assert sum(sent.values()) <= 3 * 6
    counts = await rows(
        conn, "SELECT count, count(*) AS n FROM duework.occurrence WHERE run_id IS NULL GROUP BY 1 ORDER BY 1"
    )
    every, rules = 21_600 - 29, 500
    assert {row["count"]: row["n"] for row in counts} == {every: 500, None: rules}
    assert rules * every > COUNTED_AT_ONCE


async def test_all_may_say_a_great_many(conn: Connection) -> None:
    """`max` is the task's own bound: 10,000 late runs of one task are planned in one go and no more."""
    schedule = DENSE | {"catchup": {"policy": "all", "max": 10_000, "window": "1d"}}
    task = await make_task(conn, schedule=schedule, now=T0)
    ran = await outage(conn, schedulers=False, workers=True, step=OUTAGE / 2)
    assert len(ran) == 10_000
    await check(conn, task)
