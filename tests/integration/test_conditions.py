"""Conditions in the store: what a probe's answer decides, once per turn to true, and what the ledger keeps of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from engine import db
from engine.db import Connection, Row
from engine.pipeline import parse_definition
from engine.store import leases, tasks
from engine.store.failures import pause_failing
from engine.store.leases import Lease
from scheduler.tick import tick
from tests.factories import document, dump, make_task, one, record, rows, run_row, waits
from tests.polling import poll_until

T0 = datetime(2040, 3, 2, 12, 0, tzinfo=UTC)
"""Later than the moment at which the database notes the task."""
SECOND = timedelta(seconds=1)
LONG = timedelta(hours=1)
FALSE, STILL = "the condition was false", "the condition was still true"
SUPERSEDED = "superseded by a later probe or a change of the task"
LEDGER = (
    "SELECT scheduled_for, coalesce(last_for, scheduled_for) AS last, count, disposition, reason, run_id"
    " FROM duework.occurrence ORDER BY scheduled_for"
)
STATE = "SELECT condition_met, condition_at FROM duework.task"


def condition(every: str = "1s", **members: Any) -> dict[str, Any]:
    """A condition schedule that looks at what core.echo answers."""
    return {"condition": {"every": every, "probe": {"uses": "core.echo"}, "when": "n > 0"} | members}


async def probes(conn: Connection, count: int, *, now: datetime = T0) -> list[Lease]:
    """The leases of the next `count` instants, each taken when it has come."""
    await tick(conn, count * SECOND, 30 * SECOND, 100, now=now)
    held = [await leases.lease(conn, "w1", 2, LONG, now=now + n * SECOND) for n in range(1, count + 1)]
    return [lease for each in held for lease in each]


async def decide(conn: Connection, lease: Lease, met: bool) -> str | None:
    made = record(lease, "probe").as_dict()
    return await leases.decide(conn, lease.run_id, lease.fence, "probe", made, met=met)


async def ledger(conn: Connection) -> list[tuple[float, float, int, str, str | None]]:
    """First and last instant of each row, in seconds after T0, its count, disposition and reason."""
    found = await rows(conn, LEDGER)
    return [
        (
            (each["scheduled_for"] - T0).total_seconds(),
            (each["last"] - T0).total_seconds(),
            each["count"],
            each["disposition"],
            each["reason"],
        )
        for each in found
    ]


async def test_an_instant_of_a_condition_says_so(conn: Connection) -> None:
    """The tick queues probes with the trigger that makes a worker ask."""
    await make_task(conn, now=T0, schedule=condition())
    assert [lease.trigger for lease in await probes(conn, 2)] == ["condition", "condition"]
    assert await one(conn, "SELECT min(trigger) FROM duework.upcoming") == "condition"


async def test_the_turn_to_true_fires_and_nothing_else(conn: Connection) -> None:
    """Of false false true true false true only the third and the last are followed by the pipeline."""
    await make_task(conn, now=T0, schedule=condition())
    answers = [False, False, True, True, False, True]
    found = [
        await decide(conn, lease, met) for lease, met in zip(await probes(conn, 6), answers, strict=True)
    ]
    assert found == ["false", "false", "fired", "still_true", "false", "fired"]
    assert await ledger(conn) == [
        (1, 2, 2, "skipped", FALSE),
        (3, 3, 1, "scheduled", None),
        (4, 4, 1, "skipped", STILL),
        (5, 5, 1, "skipped", FALSE),
        (6, 6, 1, "scheduled", None),
    ]
    assert await rows(conn, STATE) == [{"condition_met": True, "condition_at": T0 + 6 * SECOND}]
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 2
    assert await one(conn, "SELECT count(*) FROM duework.task_run") == 0
    kept = await rows(conn, "SELECT DISTINCT step, record ->> 'status' AS status FROM duework.checkpoint")
    assert kept == [{"step": "probe", "status": "succeeded"}]


async def test_the_first_answer_fires_when_it_is_true(conn: Connection) -> None:
    """Nothing is known before the first probe, and not known is not true."""
    await make_task(conn, now=T0, schedule=condition())
    (lease,) = await probes(conn, 1)
    assert await decide(conn, lease, True) == "fired"


async def test_an_older_instant_decides_nothing(conn: Connection) -> None:
    """A slow probe that answers after a later one neither fires nor takes the later answer back."""
    await make_task(conn, now=T0, schedule=condition())
    first, second, third = await probes(conn, 3)
    assert await decide(conn, second, False) == "false"
    assert await decide(conn, first, True) == "superseded"
    assert await decide(conn, third, True) == "fired"
    assert [row[3:] for row in await ledger(conn)] == [
        ("skipped", SUPERSEDED),
        ("skipped", FALSE),
        ("scheduled", None),
    ]


async def test_asked_twice_it_says_the_same(conn: Connection) -> None:
    """An answer that was lost on the way does not cost the turn, and takes nothing back from later probes."""
    await make_task(conn, now=T0, schedule=condition())
    first, second = await probes(conn, 2)
    assert await decide(conn, first, True) == "fired"
    assert await decide(conn, second, False) == "false"
    before = await dump(conn, "task", "due_work", "checkpoint", "occurrence")
    assert await decide(conn, first, True) == "fired"
    assert await dump(conn, "task", "due_work", "checkpoint", "occurrence") == before


async def test_a_stale_worker_decides_nothing(conn: Connection) -> None:
    """Promise (c): with the fence of a lost lease, a probe's answer changes no row, whatever it is."""
    await make_task(conn, now=T0, schedule=condition())
    (stale,) = await probes(conn, 1)
    assert await leases.release(conn, [run_row(stale)]) == {stale.run_id}
    before = await dump(conn, "task", "due_work", "checkpoint", "occurrence")
    for met in (True, False):
        assert await decide(conn, stale, met) is None
    (again,) = await leases.lease(conn, "w2", 1, LONG, now=T0 + LONG / 2)
    for met in (True, False):
        assert await decide(conn, stale, met) is None
    await leases.release(conn, [run_row(again)])
    after = await dump(conn, "task", "due_work", "checkpoint", "occurrence")
    for rows_ in (before["due_work"], after["due_work"]):
        for row in rows_:
            del row["fence"], row["slot"]
    assert after == before
    (good,) = await leases.lease(conn, "w2", 1, LONG, now=T0 + LONG / 2)
    assert await decide(conn, good, True) == "fired", "with its present fence it does"


async def test_a_run_that_was_asked_for_is_not_decided(conn: Connection) -> None:
    """Only instants of the schedule have a say."""
    task = await make_task(conn, now=T0, schedule=condition())
    (lease,) = await probes(conn, 1)
    await conn.execute("UPDATE duework.due_work SET trigger = 'run_now'")
    assert await decide(conn, lease, True) is None
    assert await rows(conn, STATE) == [{"condition_met": None, "condition_at": None}]
    assert task["condition_met"] is None


@asynccontextmanager
async def connections(url: str, count: int) -> AsyncIterator[Sequence[Connection]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(await db.connect(url, f"c{n}")) for n in range(count)]


@pytest.mark.parametrize("met", [[True] * 12, [True, False] * 6])
async def test_probes_at_once_fire_once_per_turn(
    conn: Connection, database_url: str, met: list[bool]
) -> None:
    """Twelve workers that hold the answers of twelve instants decide at the same moment, time after time.

    In whichever order they come, those that have a say have it in the order of their instants.
    """
    task = await make_task(conn, now=T0, schedule=condition())
    known, fired = None, 0
    async with connections(database_url, 12) as many:
        for round_ in range(4):
            held = await probes(conn, 12, now=T0 + 12 * round_ * SECOND)
            assert len(held) == 12
            async with conn.transaction():  # all of them wait for this lock, and are let go together
                await tasks.get(conn, task["id"], lock=True)
                asked = [
                    asyncio.create_task(decide(each, lease, answer))
                    for each, lease, answer in zip(many, held, met, strict=True)
                ]
                for each in many:
                    await poll_until(partial(waits, conn, each))
            for answer, decision in zip(met, await asyncio.gather(*asked), strict=True):
                if decision != "superseded":
                    assert decision == ("false" if not answer else "still_true" if known else "fired")
                    known, fired = answer, fired + (decision == "fired")
    assert fired == 1 or not all(met)
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == fired
    assert await one(conn, "SELECT count(*) FROM duework.checkpoint") == fired
    assert await one(conn, "SELECT condition_met FROM duework.task") is known
    everything = await rows(conn, LEDGER)
    assert sum(row["count"] for row in everything) == 48
    for row, following in pairwise(everything):
        assert row["last"] < following["scheduled_for"]


async def test_a_year_of_quiet_is_a_row_a_month(conn: Connection) -> None:
    """Instants that say the same join one range, up to the end of a month, which is what retention drops."""
    start = datetime(2040, 1, 30, 23, 59, 50, tzinfo=UTC)
    await make_task(conn, now=start, schedule=condition("12h"))
    for day in range(1, 80):
        now = start + timedelta(hours=12) * day
        await tick(conn, timedelta(0), LONG, 100, now=now)
        (lease,) = await leases.lease(conn, "w1", 1, LONG, now=now)
        assert await decide(conn, lease, False) == "false"
    found = await rows(conn, LEDGER)
    assert [(row["scheduled_for"].month, row["last"].month) for row in found] == [(1, 1), (2, 2), (3, 3)]
    assert sum(row["count"] for row in found) == 79
    assert all(row["run_id"] is None for row in found)


async def test_a_range_ends_where_something_else_was(conn: Connection) -> None:
    """An instant whose run is still under way, or has ended, or was missed, lies within no range."""
    await make_task(conn, now=T0, schedule=condition())
    first, second, third, fourth = await probes(conn, 4)
    await decide(conn, first, False)
    await decide(conn, third, False)
    assert [row[:3] for row in await ledger(conn)] == [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 4, 1)]
    await decide(conn, fourth, False)
    await leases.settle(conn, [run_row(second, "failed")], [])
    assert [(*row[:3], row[3]) for row in await ledger(conn)] == [
        (1, 1, 1, "skipped"),
        (2, 2, 1, "scheduled"),
        (3, 4, 2, "skipped"),
    ]


async def test_a_run_with_a_past_stays_in_sight(conn: Connection) -> None:
    """Where earlier attempts are in history, the instant keeps its run_id, and the run is shown as skipped."""
    await make_task(conn, now=T0, schedule=condition(), retry={"max_attempts": 2, "delay": "1s"})
    first, second = await probes(conn, 2)
    await decide(conn, first, False)
    await leases.retry(conn, [run_row(second, "failed")], [], now=T0)
    (again,) = await leases.lease(conn, "w1", 1, LONG, now=T0 + LONG)
    assert again.attempt == 2
    assert await decide(conn, again, False) == "false"
    assert [row[:4] for row in await ledger(conn)] == [(1, 1, 1, "skipped"), (2, 2, 1, "skipped")]
    shown = await rows(conn, "SELECT run_id, status, trigger FROM duework.runs")
    assert shown == [{"run_id": second.run_id, "status": "skipped", "trigger": "condition"}]


async def test_a_quiet_probe_frees_its_place_under_a_key(conn: Connection) -> None:
    """A probe that waits for its key goes as soon as the one before has come to nothing, and not before."""
    key = {"key": "k", "limit": 1, "on_conflict": "queue"}
    await make_task(conn, now=T0, schedule=condition("2s"), concurrency=key)
    await tick(conn, 10 * SECOND, 30 * SECOND, 100, now=T0)
    (first,) = await leases.lease(conn, "w1", 5, LONG, now=T0 + 2 * SECOND)
    assert await leases.lease(conn, "w1", 5, LONG, now=T0 + 4 * SECOND) == []
    async with conn.transaction():
        assert await decide(conn, first, False) == "false"
    await conn.execute("UPDATE duework.due_work SET expires_at = NULL")
    (second,) = await leases.lease(conn, "w1", 5, LONG, now=T0 + 4 * SECOND)
    async with conn.transaction():
        assert await decide(conn, second, True) == "fired"
    assert await leases.lease(conn, "w1", 5, LONG, now=T0 + 6 * SECOND) == []
    await leases.settle(conn, [run_row(second)], [])
    assert len(await leases.lease(conn, "w1", 5, LONG, now=T0 + 6 * SECOND)) == 1


async def test_an_edit_of_the_condition_forgets_the_answer(conn: Connection) -> None:
    """A new probe or a new `when` starts from nothing known; anything else of the task may change without that."""
    task = await make_task(conn, now=T0, schedule=condition())
    (lease,) = await probes(conn, 1)
    await decide(conn, lease, True)
    now = T0 + 60 * SECOND
    kept = await _changed(conn, now, title="another title", schedule=condition("2s"))
    assert (kept["version"], kept["condition_met"]) == (2, True)
    asked = await _changed(conn, now, schedule=condition("2s", when="n > 5"))
    assert (asked["condition_met"], asked["condition_at"]) == (None, None)
    assert asked["id"] == task["id"]


async def test_a_probe_of_an_older_version_decides_nothing(conn: Connection) -> None:
    """What was asked under the old definition does not answer the new one, and its instant is accounted for."""
    await make_task(conn, now=T0, schedule=condition())
    (lease,) = await probes(conn, 1)
    await _changed(conn, T0 + 1.5 * SECOND, schedule=condition(when="n > 5"))
    assert await decide(conn, lease, True) == "superseded"
    assert await rows(conn, STATE) == [{"condition_met": None, "condition_at": None}]
    assert [row[3:] for row in await ledger(conn)] == [("skipped", SUPERSEDED)]


async def test_a_pause_keeps_the_answer(conn: Connection) -> None:
    """What was true before a pause and is true after it does not fire again; the ledger tells the two apart."""
    await make_task(conn, now=T0, schedule=condition())
    first, second = await probes(conn, 2)
    assert await decide(conn, first, True) == "fired"
    await tasks.pause(conn, "job", T0 + timedelta(seconds=2, milliseconds=500))
    assert await decide(conn, second, True) == "still_true", "a probe under way ends as it would have"
    await tasks.resume(conn, "job", T0 + timedelta(seconds=9, milliseconds=500))
    (tenth,) = await probes(conn, 1, now=T0 + 9 * SECOND)
    assert await decide(conn, tenth, True) == "still_true"
    assert [row[:4] for row in await ledger(conn)] == [
        (1, 1, 1, "scheduled"),
        (2, 2, 1, "skipped"),
        (3, 9, 7, "suppressed"),
        (10, 10, 1, "skipped"),
    ]


async def test_a_task_that_comes_back_knows_nothing(conn: Connection) -> None:
    """A canceled task that is applied again is a new one in this."""
    task = await make_task(conn, now=T0, schedule=condition())
    (lease,) = await probes(conn, 1)
    await decide(conn, lease, True)
    canceled = await tasks.cancel(conn, task["id"], T0 + LONG)
    assert (await tasks.revive(conn, canceled, T0 + LONG))["condition_met"] is None


async def test_failing_probes_pause_the_task_only_in_a_row(conn: Connection) -> None:
    """One that has an answer ends the row, although it is no run; a pipeline that fails counts as everywhere."""
    task = await make_task(conn, now=T0, schedule=condition(), pause_after_failures=2)
    error = {"code": "unavailable", "message": "no", "step": "probe"}
    first, second, third, fourth = await probes(conn, 4)
    for lease in (first, third):
        await leases.settle(conn, [run_row(lease, "failed", error=error)], [])
        if lease is first:
            await decide(conn, second, False)
        assert await pause_failing(conn, [task["id"]], "test") == []
    await leases.settle(conn, [run_row(fourth, "failed", error=error)], [])
    (paused,) = await pause_failing(conn, [task["id"]], "test")
    assert "2 runs in a row failed, the last: unavailable at step probe" in paused["reason"]


@pytest.mark.parametrize(("policy", "late"), [("last", 1), ("none", 0)])
async def test_after_an_outage_only_the_present_is_probed(conn: Connection, policy: str, late: int) -> None:
    """Whichever part was down: of all past instants the newest is probed, or none."""
    schedule = condition() | {"catchup": {"policy": policy}}
    await make_task(conn, now=T0, schedule=schedule)
    back = T0 + timedelta(seconds=3600, milliseconds=500)
    await tick(conn, 5 * SECOND, 30 * SECOND, 100, now=back)
    held = await leases.lease(conn, "w1", 100, LONG, now=back)
    assert len(held) == late + (policy == "none")
    down = back + timedelta(seconds=4)
    held = await leases.lease(conn, "w1", 100, LONG, now=down)
    assert [lease.scheduled_for for lease in held] == [T0 + 3604 * SECOND]


async def _changed(conn: Connection, now: datetime, **members: Any) -> Row:
    async with conn.transaction():
        current = await tasks.get(conn, "job", lock=True)
        return await tasks.change(conn, current, parse_definition(document(**members)), now)
