"""Newer zone data: what was planned with older is planned anew; nothing that started is lost, nothing doubled.

A change of a country's rules is played by giving a stored task another zone and the mark of an older release.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from engine.db import Connection, Row
from engine.pipeline import parse_definition
from engine.schedule import tzdata_version
from engine.store import leases, ledger, replanning, tasks
from scheduler import zones
from scheduler.tick import tick
from tests.factories import document, make_task, one, rows, run_row, until
from tests.processes import Crew

T0 = datetime(2026, 1, 12, 12, 0, tzinfo=UTC)
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
HORIZON = GRACE = timedelta(seconds=30)
MORNING = {"cron": "0 9 * * *", "timezone": "Europe/Chisinau"}
NINE = datetime(2026, 1, 13, 7, 0, tzinfo=UTC)
"""Nine o'clock in Chisinau on the day after T0."""


async def older(conn: Connection, **columns: Any) -> None:
    """Mark every task as planned with an older release, defined at T0, and give it these columns."""
    values = {"tzdata_version": "2000a", "updated_at": T0} | columns
    for name, value in values.items():
        statement = {
            "tzdata_version": b"UPDATE duework.task SET tzdata_version = %s",
            "updated_at": b"UPDATE duework.task SET updated_at = %s",
            "next_run": b"UPDATE duework.task SET next_run = %s",
            "timezone": b"UPDATE duework.task SET timezone = %s",
        }[name]
        await conn.execute(statement, [value])


async def renew(conn: Connection, now: datetime) -> int:
    """One whole round; how many tasks moved."""
    moved, last = 0, zones.FIRST
    while True:
        async with conn.transaction():
            seen, gone = await zones.renew_some(conn, last, now=now, limit=2)
        if not seen:
            return moved
        moved, last = moved + gone, seen[-1]["id"]


async def tick_all(conn: Connection, now: datetime) -> int:
    """Tick as the scheduler does; how many occurrences became work."""
    made = 0
    while True:
        async with conn.transaction():
            done = await tick(conn, HORIZON, GRACE, 100, now=now)
        made += done.occurrences
        if not done.more:
            return made


async def ran(conn: Connection, task_id: UUID) -> list[datetime]:
    """The instants of the ledger that became runs."""
    found = await rows(
        conn,
        "SELECT scheduled_for FROM duework.occurrence WHERE task_id = %s AND run_id IS NOT NULL ORDER BY 1",
        task_id,
    )
    return [row["scheduled_for"] for row in found]


async def of(conn: Connection, name: str = "job") -> Row:
    return await tasks.get(conn, name)


@pytest.mark.parametrize("wrong", [NINE - HOUR, NINE + HOUR])
async def test_a_task_of_an_older_release_is_planned_anew(conn: Connection, wrong: datetime) -> None:
    """The wrong instant goes, the right one comes, and the release is noted; what holds is only noted."""
    await make_task(conn, schedule=MORNING, now=T0)
    await make_task(conn, "even", schedule={"every": "1h"}, now=T0)
    await make_task(conn, "asleep", schedule=MORNING, now=T0)
    await tasks.pause(conn, "asleep", T0)
    await older(conn)
    assert await replanning.apart(conn) == (2, 0), "a paused task is planned when it is resumed"
    await conn.execute("UPDATE duework.task SET next_run = %s WHERE name = 'job'", [wrong])
    assert await renew(conn, T0 + SECOND) == 1
    assert (await of(conn))["next_run"] == NINE
    assert (await of(conn, "even"))["next_run"] == T0 + HOUR
    assert {(await of(conn, name))["tzdata_version"] for name in ("job", "even")} == {tzdata_version()}
    assert await replanning.apart(conn) == (0, 0)
    assert await renew(conn, T0 + SECOND) == 0


async def test_the_tick_looks_before_it_writes(conn: Connection) -> None:
    """A task that older data calls due is not run when ours does not, although nobody has looked at it before."""
    await make_task(conn, schedule=MORNING, now=T0)
    await older(conn, next_run=NINE - HOUR)
    assert await tick_all(conn, NINE - HOUR) == 0
    assert (await of(conn))["next_run"] == NINE
    assert await tick_all(conn, NINE) == 1


async def test_an_instant_that_moved_into_the_past_is_late_and_not_lost(conn: Connection) -> None:
    """Nine o'clock is known to be an hour earlier twenty minutes after it has passed: it runs, once."""
    task = await make_task(conn, schedule=MORNING, now=T0)
    await older(conn, next_run=NINE + HOUR)
    now = NINE + HOUR / 3
    assert await renew(conn, now) == 1
    assert await tick_all(conn, now) == 1
    assert await ran(conn, task["id"]) == [NINE]
    assert (await of(conn))["next_run"] == NINE + 24 * HOUR


async def test_rows_that_lie_ready_are_taken_back(conn: Connection) -> None:
    """An unstarted row of the old rules goes with its line of the ledger, and its counterpart takes its place."""
    task = await make_task(conn, schedule=MORNING, now=T0)
    assert await tick_all(conn, NINE - 15 * SECOND) == 1
    await older(conn, timezone="Europe/Berlin")
    assert await renew(conn, NINE - 10 * SECOND) == 1
    assert await ran(conn, task["id"]) == []
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0
    assert (await of(conn))["next_run"] == NINE + HOUR


async def test_what_has_started_stays(conn: Connection) -> None:
    """A run under way keeps its instant; the next one is that of the next day, under the new rules."""
    task = await make_task(conn, schedule=MORNING, now=T0)
    assert await tick_all(conn, NINE - 15 * SECOND) == 1
    (held,) = await leases.lease(conn, "w1", 1, HOUR, now=NINE)
    await older(conn, timezone="Europe/Berlin")
    assert await renew(conn, NINE + SECOND) == 1
    assert await ran(conn, task["id"]) == [NINE]
    assert (await of(conn))["next_run"] == NINE + 25 * HOUR
    assert held.scheduled_for == NINE
    (skipped,) = await rows(conn, "SELECT * FROM duework.occurrence WHERE disposition = 'skipped'")
    assert skipped["scheduled_for"] == NINE + HOUR, "nine o'clock comes again, and was seen to"
    assert "had run at 2026-01-13T07:00:00+00:00" in skipped["reason"]


@pytest.mark.parametrize("change", ["edit", "pause", "snooze"])
async def test_a_change_does_not_bring_back_what_has_run(conn: Connection, change: str) -> None:
    """Nine o'clock ran and moved an hour on; whatever people do to the task meanwhile, it does not run again then."""
    task = await make_task(conn, schedule=MORNING, now=T0)
    assert await tick_all(conn, NINE - 15 * SECOND) == 1
    (held,) = await leases.lease(conn, "w1", 1, HOUR, now=NINE)
    await leases.settle(conn, [run_row(held)], [])
    await older(conn, timezone="Europe/Berlin")
    now = NINE + HOUR / 2
    assert await renew(conn, now) == 1
    async with conn.transaction():
        if change == "edit":
            schedule = MORNING | {"timezone": "Europe/Berlin"}
            edited = parse_definition(document("job", schedule=schedule, priority=2))
            await tasks.change(conn, await tasks.get(conn, "job", lock=True), edited, now)
        elif change == "pause":
            await tasks.pause(conn, "job", now)
            await tasks.resume(conn, "job", now + HOUR)
        else:
            await tasks.snooze(conn, "job", now, now + HOUR / 4, None)
    await tick_all(conn, NINE + HOUR - 15 * SECOND)
    await tick_all(conn, NINE + HOUR + SECOND)
    assert await ran(conn, task["id"]) == [NINE]
    again = "SELECT disposition, last_for FROM duework.occurrence WHERE scheduled_for = %s"
    assert await rows(conn, again, NINE + HOUR) == [{"disposition": "skipped", "last_for": None}]
    assert (await of(conn))["next_run"] == NINE + 25 * HOUR


async def test_newer_data_is_left_to_who_has_it(conn: Connection) -> None:
    """While a scheduler with a newer release ticks, ours passes its tasks by; afterwards they are ours again."""
    await make_task(conn, schedule=MORNING, now=T0)
    await conn.execute("UPDATE duework.task SET tzdata_version = '2999a', next_run = %s", [NINE - HOUR])
    await conn.execute(
        "INSERT INTO duework.scheduler (id, host, pid, version, tzdata_version, last_tick)"
        " VALUES ('new', 'h', 1, '9', '2999a', %s)",
        [NINE - HOUR],
    )
    assert await replanning.apart(conn) == (0, 1)
    assert await renew(conn, NINE - HOUR) == 0
    assert await tick_all(conn, NINE - HOUR) == 0
    assert await one(conn, "SELECT next_run FROM duework.task") == NINE - HOUR
    await conn.execute("UPDATE duework.scheduler SET last_tick = last_tick - interval '1 minute'")
    assert await tick_all(conn, NINE - HOUR) == 1, "better a run by older rules than none"
    assert await one(conn, "SELECT tzdata_version FROM duework.task") == tzdata_version()


@pytest.mark.parametrize(
    "schedule",
    [
        {"cron": "0 9 * * *"},
        {"rrule": "FREQ=DAILY;BYHOUR=0,23;BYMINUTE=30"},
        {"rrule": "FREQ=HOURLY;INTERVAL=3"},
        {"cron": "*/7 * * * *"},
        {"every": "37m"},
    ],
)
@pytest.mark.parametrize("hours", [0, 8.9])
@pytest.mark.parametrize("there", ["Europe/Berlin", "Europe/Moscow"])
async def test_a_change_in_the_middle_of_a_week(
    conn: Connection, schedule: dict[str, Any], hours: float, there: str
) -> None:
    """Ticks through the change: as many instants are told as without it, and after it all that the new rules name."""
    task = await make_task(conn, schedule=schedule | {"timezone": "Europe/Chisinau"}, now=T0)
    before = ledger.schedule_from(await of(conn))
    change, now = T0.replace(hour=0) + timedelta(days=2, hours=hours), T0
    while now < T0 + timedelta(days=4):
        if now < change <= now + HOUR:
            await tick_all(conn, change)
            await older(conn, timezone=there)
            await renew(conn, change)
        now += HOUR
        await tick_all(conn, now)
    after = ledger.schedule_from(await of(conn))
    found = await rows(conn, "SELECT * FROM duework.occurrence WHERE task_id = %s ORDER BY 2", task["id"])
    told: list[datetime] = []
    for row in found:
        first = row["scheduled_for"]
        rules = before if before.next(first - SECOND) == [first] and first < change else after
        told += rules.next(first - SECOND, row["count"]) if row["count"] > 1 else [first]
    assert told == sorted(set(told)), "none twice"
    expected = [one for one in after.next(change, 2000) if one <= now + HORIZON]
    assert [one for one in told if one > change] == expected
    usual = [one for one in before.next(T0, 2000) if one <= now]
    went = len(told) - sum(row["disposition"] == "skipped" for row in found)
    assert abs(went - len(usual)) <= (0 if "DAILY" in str(schedule) or "0 9" in str(schedule) else 1)


async def test_a_scheduler_begins_with_what_is_stale(conn: Connection, crew: Crew) -> None:
    """A process with newer data looks at every task as it starts, says so, and ticks meanwhile."""
    for n in range(5):
        await make_task(conn, f"job-{n}", schedule={"cron": "0 9 * * *", "timezone": "Asia/Tokyo"})
    await make_task(conn, "dense", schedule={"every": "1s"})
    right = {row["name"]: row["next_run"] for row in await rows(conn, "SELECT * FROM duework.task")}
    await older(conn)
    await conn.execute(
        "UPDATE duework.task SET next_run = next_run + interval '1 hour' WHERE name <> 'dense'"
    )
    member = await crew.scheduler()
    (said,) = [await member.logged("schedules.replanned")]
    assert (said["tzdata"], said["moved"]) == (tzdata_version(), 5)
    await until(conn, "SELECT FROM duework.due_work")
    now = {row["name"]: row["next_run"] for row in await rows(conn, "SELECT * FROM duework.task")}
    assert {name: now[name] for name in now if name != "dense"} == {
        name: right[name] for name in right if name != "dense"
    }
