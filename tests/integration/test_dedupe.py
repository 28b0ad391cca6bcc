"""Dedupe keys: runs with one key within the window are one run, whoever asks and however many ask at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine import db
from engine.db import Connection, Row
from engine.errors import ValidationFailed
from engine.pipeline import parse_definition
from engine.store import events, leases, runs, tasks
from engine.store.events import Event
from scheduler.tick import tick
from tests.factories import document, lease_one, make_task, one, queue, rows, run_row, waits
from tests.integration.test_ledger import GRACE, HORIZON, SECOND, T0, Story, tick_all, work_off, written
from tests.polling import poll_until

MINUTE = timedelta(minutes=1)


def keyed(window: str | None = None, key: str = "report") -> dict[str, Any]:
    """The `dedupe` member of a definition."""
    return {"key": key} | ({"window": window} if window else {})


async def ask(conn: Connection, task: Row, now: datetime, trigger: str = "run_now", **members: Any) -> Row:
    """A run asked for at `now`, in a transaction of its own."""
    async with conn.transaction():
        return await runs.enqueue(conn, runs.Request(task["id"], trigger, **members), now=now)


async def became(conn: Connection, task: Row) -> list[tuple[float, str]]:
    """(seconds after T0, disposition) of the task's lines in the ledger."""
    found = await written(conn, task["id"])
    return [((row["scheduled_for"] - T0).total_seconds(), row["disposition"]) for row in found]


async def test_instants_within_the_window_are_one_run(conn: Connection) -> None:
    """Several instants of one tick are judged in order; those refused are in the ledger and name the run."""
    task = await make_task(conn, schedule={"every": "10s"}, dedupe=keyed("25s"), now=T0)
    assert await tick_all(conn, T0) == 1
    assert await tick_all(conn, T0 + 30 * SECOND) == 1
    refused, let_in = "deduplicated", "scheduled"
    assert await became(conn, task) == [
        (10, let_in), (20, refused), (30, refused), (40, let_in), (50, refused), (60, refused),
    ]  # fmt: skip
    found = await written(conn, task["id"])
    assert str(found[0]["run_id"]) in found[1]["reason"]
    assert str(found[3]["run_id"]) in found[5]["reason"]
    assert found[1]["run_id"] is None
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 2


async def test_a_window_ends_where_the_next_instant_begins(conn: Connection) -> None:
    """`less than the window`: instants exactly a window apart are two runs."""
    await make_task(conn, schedule={"every": "10s"}, dedupe=keyed("10s"), now=T0)
    assert await tick_all(conn, T0) == 3


async def test_keys_belong_to_their_task(conn: Connection) -> None:
    """Two tasks with the same key do not know of each other."""
    for name in ("one", "two"):
        await make_task(conn, name, schedule={"every": "10s"}, dedupe=keyed("1h"), now=T0)
    assert await tick_all(conn, T0) == 2


async def test_parameters_tell_runs_apart(conn: Connection) -> None:
    """The key is rendered with each run's own parameters, defaults included; another key is another run."""
    schema = {"type": "object", "properties": {"city": {"type": "string", "default": "Chisinau"}}}
    task = await make_task(conn, params_schema=schema, dedupe=keyed("1h", "${params.city}"))
    first = await ask(conn, task, T0)
    other = await ask(conn, task, T0 + SECOND, params={"city": "Bender"})
    again = await ask(conn, task, T0 + SECOND, params={"city": "Chisinau"})
    assert [row["deduplicated"] for row in (first, other, again)] == [False, False, True]
    assert again["run_id"] == first["run_id"]
    assert again["status"] == "queued"


async def test_a_run_now_meets_what_the_tick_wrote_ahead(conn: Connection) -> None:
    """Within the window of an instant to come, that run stands; further away, it is a run of its own."""
    task = await make_task(conn, schedule={"every": "20s"}, dedupe=keyed("5s"), now=T0)
    await tick_all(conn, T0)
    (ahead,) = await rows(conn, "SELECT id AS run_id FROM duework.due_work")
    far = await ask(conn, task, T0 + 10 * SECOND)
    near = await ask(conn, task, T0 + 16 * SECOND)
    assert (far["deduplicated"], near["deduplicated"]) == (False, True)
    assert near["run_id"] == ahead["run_id"]


async def test_an_instant_meets_the_run_that_was_asked_for(conn: Connection) -> None:
    """Within the window after a run-now the schedule's own instants are deduplicated, and name it."""
    task = await make_task(conn, schedule={"every": "10s"}, dedupe=keyed("15s"), now=T0)
    asked = await ask(conn, task, T0 + 2 * SECOND)
    await tick_all(conn, T0 + 2 * SECOND)
    assert await became(conn, task) == [(10, "deduplicated"), (20, "scheduled"), (30, "deduplicated")]
    assert str(asked["run_id"]) in (await written(conn, task["id"]))[0]["reason"]


async def test_a_catch_up_is_judged_by_its_instants(conn: Connection) -> None:
    """After an outage: not when rows are written counts, but the instants they are for."""
    schedule = {"every": "10m", "catchup": {"policy": "all", "window": "1d"}}
    task = await make_task(conn, schedule=schedule, dedupe=keyed("25m"), now=T0)
    late = T0 + 65 * MINUTE
    await ask(conn, task, late)
    assert await tick_all(conn, late) == 2
    kept = [at / 60 for at, disposition in await became(conn, task) if disposition == "scheduled"]
    assert kept == [10, 40]


async def test_without_a_window_a_key_is_held_while_its_run_is_live(conn: Connection) -> None:
    """Scheduled, queued or running: it stands. Settled: the next is let in."""
    task = await make_task(conn, dedupe=keyed())
    first = await ask(conn, task, T0)
    assert (await ask(conn, task, T0 + MINUTE))["run_id"] == first["run_id"]
    held = await lease_one(conn)
    running = await ask(conn, task, T0 + 2 * MINUTE)
    assert (running["deduplicated"], running["status"]) == (True, "running")
    await leases.settle(conn, [run_row(held, "failed")], [])
    second = await ask(conn, task, T0 + 3 * MINUTE)
    assert second["deduplicated"] is False
    assert await one(conn, "SELECT count(*) FROM duework.dedupe_key") == 1


async def test_without_a_window_an_instant_is_judged_when_it_comes(conn: Connection) -> None:
    """What is written ahead would find its predecessor queued: such a task is not written ahead."""
    task = await make_task(conn, schedule={"every": "10s"}, dedupe=keyed(), now=T0)
    assert await tick_all(conn, T0 + 9 * SECOND) == 0
    assert await tick_all(conn, T0 + 10 * SECOND) == 1
    assert await tick_all(conn, T0 + 21 * SECOND) == 0
    assert await work_off(conn, T0 + 25 * SECOND) == 1
    assert await tick_all(conn, T0 + 30 * SECOND) == 1
    assert await became(conn, task) == [(10, "scheduled"), (20, "deduplicated"), (30, "scheduled")]


async def test_an_edit_that_brings_the_instant_back_is_not_suppressed(conn: Connection) -> None:
    """The run that held the key was withdrawn, so its hold is gone; what had been refused is judged anew."""
    task = await make_task(conn, schedule={"every": "10s"}, dedupe=keyed("1h"), now=T0)
    await tick_all(conn, T0)
    current = await tasks.get(conn, "job", lock=True)
    definition = parse_definition(document(schedule={"every": "10s"}, dedupe=keyed("1h"), title="new"))
    await tasks.change(conn, current, definition, T0 + SECOND)
    assert await became(conn, task) == []
    assert await tick_all(conn, T0 + SECOND) == 1
    assert (await became(conn, task))[0] == (10, "scheduled")
    assert await one(conn, "SELECT task_version FROM duework.due_work") == 2


async def test_a_run_that_never_began_stands_for_nobody(conn: Connection) -> None:
    """Missed, or canceled in the queue: the key is free at once. One that began and failed stands."""
    task = await make_task(
        conn, schedule={"every": "10s", "catchup": {"policy": "none"}}, dedupe=keyed("1h"), now=T0
    )
    await tick_all(conn, T0)
    await leases.expire(conn, now=T0 + 41 * SECOND)
    assert (await became(conn, task))[0] == (10, "missed")
    asked = await ask(conn, task, T0 + 41 * SECOND)
    assert asked["deduplicated"] is False
    await leases.cancel(conn, asked["run_id"], "not now")
    again = await ask(conn, task, T0 + 42 * SECOND)
    assert again["deduplicated"] is False
    (held,) = await leases.lease(conn, "w1", 1, MINUTE, now=T0 + 43 * SECOND)
    await leases.settle(conn, [run_row(held, "failed")], [])
    assert (await ask(conn, task, T0 + MINUTE))["run_id"] == again["run_id"]


async def test_the_run_that_stands_is_not_replaced_by_those_it_stands_for(conn: Connection) -> None:
    """Under `last` the next instant takes over; where it is deduplicated, the run waits as long as it stands."""
    await make_task(conn, "plain", schedule={"every": "1m"}, now=T0)
    await make_task(conn, "windowed", schedule={"every": "1m"}, dedupe=keyed("10m"), now=T0)
    await make_task(conn, "live", schedule={"every": "1m"}, dedupe=keyed(), now=T0)
    await tick_all(conn, T0 + MINUTE)
    statement = """SELECT t.name, min(d.expires_at - d.scheduled_for) AS left FROM duework.due_work d
      JOIN duework.task t ON t.id = d.task_id GROUP BY t.name"""
    left = {row["name"]: row["left"] for row in await rows(conn, statement)}
    assert left == {"plain": MINUTE, "windowed": 10 * MINUTE, "live": timedelta(days=1)}


@pytest.mark.parametrize("trigger", ["backfill", "retry"])
async def test_what_repeats_the_past_is_let_in_and_stands_for_nobody(conn: Connection, trigger: str) -> None:
    """A person asked for exactly these runs."""
    task = await make_task(conn, dedupe=keyed("1h"))
    assert (await ask(conn, task, T0, trigger))["deduplicated"] is False
    assert (await ask(conn, task, T0))["deduplicated"] is False
    assert (await ask(conn, task, T0, trigger))["deduplicated"] is False


async def test_events_are_told_apart_by_their_payload(conn: Connection) -> None:
    """The second event of an order triggers nothing new and says so; the event itself is kept."""
    task = await make_task(
        conn, schedule={"event": {"topic": "order.*"}}, dedupe=keyed("1h", "${event.payload.id}")
    )
    found = []
    for number in (7, 8, 7):
        async with conn.transaction():
            found.append(
                (await events.publish(conn, Event("order.paid", {"id": number}, "shop")))["triggered"][0]
            )
    assert [one["deduplicated"] for one in found] == [False, False, True]
    assert found[2]["run_id"] == found[0]["run_id"]
    assert found[2]["task_id"] == task["id"]
    assert await one(conn, "SELECT count(*) FROM duework.event") == 3


async def test_an_event_without_a_key_is_nobodys_repeat(conn: Connection) -> None:
    """An event of which no key can be made must not be lost, nor keep other tasks from it: it runs, and is told."""
    await make_task(conn, schedule={"event": {"topic": "order.*"}}, dedupe=keyed("1h", "${event.payload.id}"))
    with capture_logs() as logs:
        for _ in range(2):
            async with conn.transaction():
                answer = await events.publish(conn, Event("order.paid", {}, "shop"))
            assert answer["triggered"][0]["deduplicated"] is False
    assert [line["event"] for line in logs] == ["run.unkeyed"] * 2
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 2


@pytest.mark.parametrize(("params", "words"), [({}, "nothing"), ({"id": "x" * 501}, "501 characters")])
async def test_a_key_that_cannot_be_made_is_told(
    conn: Connection, params: dict[str, Any], words: str
) -> None:
    """Empty or too long: an error that names the place, and nothing queued."""
    task = await make_task(conn, dedupe=keyed(key="${params.id}"))
    with pytest.raises(ValidationFailed, match=words) as caught:
        await ask(conn, task, T0, params=params)
    assert caught.value.errors[0].pointer == "/dedupe/key"
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0


async def test_who_has_no_key_pays_no_statement(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick and a run-now of tasks without `dedupe` execute what they did before; a tick asks once for all keys."""
    names: list[str] = []
    query = db.query

    def noted(name: str) -> bytes:
        names.append(name)
        return query(name)

    monkeypatch.setattr(db, "query", noted)
    plain = await make_task(conn, "plain", schedule={"every": "10s"}, now=T0)
    await ask(conn, plain, T0)
    assert names == ["insert_due_work", "notify_work"]
    names.clear()
    await tick_all(conn, T0)
    assert not [name for name in names if "dedup" in name]
    for number in range(5):
        await make_task(conn, f"keyed-{number}", schedule={"every": "10s"}, dedupe=keyed("15s"), now=T0)
    names.clear()
    async with conn.transaction():
        await tick(conn, HORIZON, GRACE, 100, now=T0)
    asked = [name for name in names if "dedup" in name]
    assert asked == ["lock_dedupe_keys", "list_dedupe_holds", "insert_dedupe_holds", "insert_deduplicated"]


async def test_what_is_over_is_forgotten(conn: Connection) -> None:
    """Holds go a day after their window, and those without one with their run."""
    windowed = await make_task(conn, "windowed", dedupe=keyed("1h"))
    live = await make_task(conn, "live", dedupe=keyed())
    now = await db.clock(conn)
    await ask(conn, windowed, now - timedelta(hours=24))
    await ask(conn, windowed, now - timedelta(hours=26))
    await ask(conn, live, now)
    assert await db.execute(conn, "forget_dedupe_keys") == 1
    await work_off(conn, now + SECOND)
    assert await db.execute(conn, "forget_dedupe_keys") == 1
    assert await one(conn, "SELECT count(*) FROM duework.dedupe_key") == 1


@pytest.fixture
async def crowd(database_url: str) -> AsyncIterator[list[Connection]]:
    """Eight connections, as eight processes have them."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(await db.connect(database_url, "crowd")) for _ in range(8)]


@pytest.mark.parametrize("window", ["1h", None])
async def test_of_many_that_ask_at_once_one_is_let_in(
    conn: Connection, crowd: list[Connection], window: str | None
) -> None:
    """Eight processes, twenty times each: one run, and every answer names it."""
    task = await make_task(conn, dedupe=keyed(window))

    async def many(mine: Connection) -> list[Row]:
        return [await ask(mine, task, T0 + number * SECOND) for number in range(20)]

    found = [row for rows_ in await asyncio.gather(*map(many, crowd)) for row in rows_]
    assert len({row["run_id"] for row in found}) == 1
    assert sum(not row["deduplicated"] for row in found) == 1
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 1


async def test_schedulers_and_callers_at_once_keep_the_window(
    conn: Connection, crowd: list[Connection]
) -> None:
    """Ticks race with run-nows: whoever comes first, no two runs of a key are nearer than its window."""
    made = [
        await make_task(conn, f"job-{number}", schedule={"every": "1s"}, dedupe=keyed("7s"), now=T0)
        for number in range(4)
    ]

    async def ticks(mine: Connection) -> None:
        for second in range(0, 60, 5):
            await tick_all(mine, T0 + second * SECOND)

    async def calls(mine: Connection) -> None:
        for second in range(60):
            await ask(mine, made[second % len(made)], T0 + second * SECOND)

    await asyncio.gather(*map(ticks, crowd[:4]), *map(calls, crowd[4:]))
    for task in made:
        await spaced(conn, task, 7 * SECOND)
        found = [at for at, _ in await became(conn, task)]
        assert found == sorted(set(found)), "each instant once"
        assert len(found) >= 85, "and none is lost"


async def spaced(conn: Connection, task: Row, window: timedelta) -> None:
    """Assert that no two of the task's runs, queued or ended, are nearer than the window."""
    statement = """SELECT coalesce(scheduled_for, run_at) AS at FROM duework.due_work WHERE task_id = %s
      UNION ALL SELECT scheduled_for FROM duework.task_run WHERE task_id = %s ORDER BY at"""
    found = [row["at"] for row in await rows(conn, statement, task["id"], task["id"])]
    assert len(found) > 1
    assert all(later - earlier >= window for earlier, later in pairwise(found)), found


async def test_who_waits_for_a_key_learns_how_it_was_decided(
    conn: Connection, crowd: list[Connection]
) -> None:
    """While another transaction has let its run in, one waits: rolled back, it is let in; committed, it is not."""
    task = await make_task(conn, dedupe=keyed("1h"))
    holder, waiter = crowd[:2]
    for commits in (False, True):
        async with holder.transaction(force_rollback=not commits):
            await runs.enqueue(
                holder, runs.Request(task["id"], "run_now"), now=T0 + timedelta(hours=2 * commits)
            )
            asked = asyncio.create_task(ask(waiter, task, T0 + timedelta(hours=2 * commits)))
            await poll_until(lambda: waits(conn, waiter))
        assert (await asked)["deduplicated"] is commits


@pytest.mark.parametrize("window", ["17s", "10m", None])
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_the_ledger_is_complete(
    conn: Connection, seed: int, window: str | None
) -> None:
    """The random life of a task with a dedupe key: no instant is lost or doubled, and the window is kept."""
    story = Story(conn, seed, dedupe=keyed(window))
    await story.begin()
    for _ in range(40):
        await story.step()
        if story.dice.random() < 0.2:
            await ask(conn, story.task, story.now)
    await story.check()
    ledger = await became(conn, story.task)
    assert {"deduplicated", "scheduled"} <= {disposition for _, disposition in ledger}
    if window:
        await queue_is_spaced(conn, story)


async def queue_is_spaced(conn: Connection, story: Story) -> None:
    """Assert the window for the runs that are scheduled or have begun; a missed one stands for nobody."""
    statement = """SELECT scheduled_for FROM duework.runs
      WHERE task_id = %s AND trigger = 'schedule' AND status <> 'missed' ORDER BY scheduled_for"""
    found = [row["scheduled_for"] for row in await rows(conn, statement, story.task["id"])]
    near = timedelta(seconds=17) if story.members["dedupe"]["window"] == "17s" else 10 * MINUTE
    assert all(later - earlier >= near for earlier, later in pairwise(found)), found


async def test_a_child_names_the_run_that_stands(conn: Connection) -> None:
    """task.run_now of a pipeline: the answer is kept under the step's key, deduplicated or not."""
    task = await make_task(conn, dedupe=keyed("1h"))
    standing = await queue(conn, task)
    request = runs.Request(task["id"], "pipeline", parent_run_id=standing)
    for _ in range(2):
        async with conn.transaction():
            answer = await runs.enqueue_once(conn, request, f"{standing}:step")
        assert answer == {"run_id": standing, "deduplicated": True}
