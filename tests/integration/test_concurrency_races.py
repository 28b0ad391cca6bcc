"""Concurrency keys under many hands: no wake-up lost, no number given twice, no deadlock, and nobody slowed."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg import sql

from engine import db
from engine.db import Connection, Row
from engine.pipeline import parse_definition
from engine.store import concurrency, leases, tasks
from engine.store.leases import Lease
from tests.factories import document, lease_one, make_task, one, queue, rows, run_row, waits
from tests.integration.test_concurrency import holders, ids, lease_all, limited, settle, waiting
from tests.polling import poll_until

EXPLAIN = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) {}")
LONG, NOW = timedelta(minutes=5), timedelta(0)


async def test_a_wake_up_is_not_lost_to_a_row_about_to_wait(conn: Connection, database_url: str) -> None:
    """A run that ends while another is being laid aside waits for that commit, and wakes it."""
    task = await limited(conn)
    await queue(conn, task)
    (held,) = await lease_all(conn)
    second = await queue(conn, task)
    taken, refused = await leases.take(conn, "w1", 1, LONG)
    assert (taken, [one.run_id for one in refused]) == ([], [second])
    async with await db.connect(database_url, "settler") as settler:
        async with conn.transaction():
            assert await leases.turn_away(conn, refused) == 1
            ending = asyncio.create_task(settle(settler, held))
            await poll_until(lambda: waits(conn, settler))
        await ending
    assert ids(await lease_all(conn)) == [second]


async def test_a_row_does_not_wait_for_a_number_that_is_being_freed(
    conn: Connection, database_url: str
) -> None:
    """Turning a row away waits for a run that is ending, finds the number free, and leaves the row to be leased."""
    task = await limited(conn)
    await queue(conn, task)
    (held,) = await lease_all(conn)
    second = await queue(conn, task)
    _, refused = await leases.take(conn, "w1", 1, LONG)
    async with await db.connect(database_url, "other") as other:
        async with conn.transaction():
            await leases.settle(conn, [run_row(held)], [])
            turning = asyncio.create_task(leases.turn_away(other, refused))
            async with await db.connect(database_url, "watcher") as watcher:
                await poll_until(lambda: waits(watcher, other))
        assert await turning == 0
    assert ids(await lease_all(conn)) == [second]


async def test_two_that_ask_for_one_number_at_once(conn: Connection, database_url: str) -> None:
    """The second waits for the first's commit and is refused: the number is given once."""
    task = await limited(conn)
    first = await queue(conn, task)
    async with await db.connect(database_url, "other") as other:
        async with conn.transaction():
            taken, _ = await leases.take(conn, "w1", 1, LONG)
            second = await queue(other, task)
            racing = asyncio.create_task(leases.take(other, "w2", 1, LONG))
            async with await db.connect(database_url, "watcher") as watcher:
                await poll_until(lambda: waits(watcher, other))
        lost_, refused = await racing
    assert (ids(taken), lost_, [one.run_id for one in refused]) == ([first], [], [second])


async def test_a_flood_behind_one_key_leaves_the_way_in_one_round(conn: Connection) -> None:
    """A worker with room for one turns away all that ask for the same key, not one a time."""
    task = await limited(conn)
    for _ in range(50):
        await queue(conn, task)
    await lease_one(conn)
    assert await leases.lease(conn, "w1", 1, LONG) == []
    assert len(await waiting(conn)) == 49


async def test_what_is_left_behind_is_swept(conn: Connection) -> None:
    """A row deleted by hand leaves a number; the reaper passes it on once it is old, and wakes who was forgotten."""
    task = await limited(conn)
    gone = await queue(conn, task)
    await lease_all(conn)
    second, third = await queue(conn, task), await queue(conn, task)
    assert await lease_all(conn) == []
    await conn.execute("DELETE FROM duework.due_work WHERE id = %s", [gone])
    assert await concurrency.sweep(conn) == 0, "too young to be judged"
    await conn.execute("UPDATE duework.concurrency_slot SET taken_at = now() - interval '2 minutes'")
    assert await concurrency.sweep(conn) == 1
    (lease,) = await lease_all(conn)
    assert lease.run_id == second
    await conn.execute("DELETE FROM duework.due_work WHERE id = %s", [second])
    await conn.execute("DELETE FROM duework.concurrency_slot")
    assert await concurrency.sweep(conn) == 1, "a free number, and somebody who waits"
    assert ids(await lease_all(conn)) == [third]
    assert await concurrency.sweep(conn) == 0
    assert set((await holders(conn)).values()) == {third}


async def test_one_behind_the_next_in_line_is_swept_too(conn: Connection, database_url: str) -> None:
    """The free number is too high for the next in line; who may have it was locked when it was freed, and is woken."""
    narrow = await limited(conn, "narrow", key="shared")
    wide = await limited(conn, "wide", key="shared", limit=3)
    await queue(conn, narrow)
    held = await lease_all(conn)
    for _ in range(2):
        await queue(conn, wide)
    held += await lease_all(conn)
    next_, behind = await queue(conn, narrow), await queue(conn, wide)
    assert await lease_all(conn) == []
    async with await db.connect(database_url, "other") as other, other.transaction():
        await other.execute("SELECT FROM duework.due_work WHERE id = %s FOR UPDATE", [behind])
        await settle(conn, held[2])
    assert await waiting(conn) == [next_, behind]
    assert await concurrency.sweep(conn) == 1
    assert ids(await lease_all(conn)) == [behind]


async def test_a_key_of_a_version_that_has_made_way_limits_nobody(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is taken from the task while a run is asked for, whose key was already made: it is queued without."""
    task = await make_task(conn, params={"k": "a"}, concurrency={"key": "${params.k}", "limit": 1})
    read = tasks.definition
    async with await db.connect(database_url, "editor") as editor:

        async def overtaken(reader: Connection, task_id: UUID, version: int) -> dict[str, Any]:
            found = await read(reader, task_id, version)
            async with editor.transaction():
                current = await tasks.get(editor, task_id, lock=True)
                await tasks.change(editor, current, parse_definition(document()), await db.clock(editor))
            return found

        monkeypatch.setattr(tasks, "definition", overtaken)
        run_id = await queue(conn, task)
    (lease,) = await lease_all(conn)
    assert (lease.run_id, lease.task_version, lease.concurrency_key) == (run_id, 2, None)


async def test_slots_rotate_while_rows_wait(conn: Connection) -> None:
    """Waiting rows keep no slot from draining, and come back to the slot that is written to then."""
    task = await limited(conn)
    first, second = await queue(conn, task), await queue(conn, task)
    (held,) = await lease_all(conn)
    assert await waiting(conn) == [second]
    for _ in range(4):
        await leases.rotate(conn, NOW)
        await leases.move_stragglers(conn, NOW)
        await leases.promote(conn)
        await leases.truncate_drained(conn)
        assert await holders(conn) == {("task:job", 0): first}
        assert await waiting(conn) == [second]
    await settle(conn, held)
    assert ids(await lease_all(conn)) == [second]


async def examined(conn: Connection, name: str, values: Row) -> float:
    """Rows that a stored statement reads from tables, removed ones included, as EXPLAIN ANALYZE counts them."""
    async with conn.transaction(force_rollback=True):
        found = await conn.execute(EXPLAIN.format(sql.SQL(db.query(name).decode())), values)
        plan = (await found.fetchall())[0]["QUERY PLAN"][0]["Plan"]

    def count(node: Row) -> float:
        removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        own = (node["Actual Rows"] + removed) * node["Actual Loops"] if "Relation Name" in node else 0
        return own + sum(count(child) for child in node.get("Plans", ()))

    return count(plan)


async def test_twenty_thousand_waiting_rows_slow_nobody(conn: Connection) -> None:
    """No statement of a worker's or a scheduler's round reads more than a handful of rows because of them."""
    task = await limited(conn)
    holder = await queue(conn, task)
    (held,) = await lease_all(conn)
    await conn.execute(
        "INSERT INTO duework.due_work (slot, task_id, task_version, trigger, run_at, expires_at, concurrency_key, "
        "concurrency_limit, on_conflict, waiting) SELECT -1, %s, 1, 'run_now', now() - interval '1 hour', "
        "now() + interval '1 hour', 'task:job', 1, 'queue', true FROM generate_series(1, 20000)",
        [task["id"]],
    )
    await conn.execute("ANALYZE duework.due_work, duework.concurrency_slot")
    free = await make_task(conn, "free")
    for _ in range(5):
        await queue(conn, free)
    lease = {"worker": "w1", "limit": 10, "lease": LONG, "ahead": timedelta(0), "now": None}
    ended = {"keys": ["task:job"], "slots": [0], "run_ids": [holder], "now": None}
    bounds: dict[str, tuple[Row, int]] = {
        "lease_due_work": (lease, 100),
        "next_due_work": ({"now": None}, 100),
        "promote_due_work": ({"limit": 1000, "now": None}, 20),
        "expire_due_work": ({"limit": 1000, "now": None}, 50),
        "wake_waiting": (ended, 60),
        "find_free_slots": ({"limit": 1000}, 20),
        "sweep_slots": ({}, 20),
    }
    seen = {name: await examined(conn, name, values) for name, (values, _) in bounds.items()}
    assert {name: count for name, count in seen.items() if count > bounds[name][1]} == {}
    assert len(await lease_all(conn)) == 5
    await settle(conn, held)
    assert len(await lease_all(conn)) == 1


async def test_numbers_are_taken_in_any_order_without_a_deadlock(conn: Connection, database_url: str) -> None:
    """Workers that lease and settle the same keys in opposing orders wait for each other, and never in a circle."""
    made = [await limited(conn, f"t{n}", key=f"k{n}", limit=2) for n in range(6)]
    for turn in range(12):
        for task in made if turn % 2 else reversed(made):
            await queue(conn, task)
    before = await deadlocks(conn)

    async def work(name: str) -> int:
        done = 0
        async with await db.connect(database_url, name) as own:
            while await one(own, "SELECT count(*) FROM duework.due_work"):
                held = await leases.lease(own, name, 7, LONG)
                held.sort(key=lambda lease: lease.run_id.int, reverse=name == "w1")
                if held:
                    await settle(own, *held)
                done += len(held)
        return done

    async with asyncio.timeout(60):
        done = await asyncio.gather(*(work(f"w{n}") for n in range(4)))
    assert sum(done) == 72
    assert await deadlocks(conn) == before
    assert await holders(conn) == {}


async def deadlocks(conn: Connection) -> int:
    """How many the database has counted."""
    await conn.execute("SELECT pg_stat_clear_snapshot()")
    count: int = await one(conn, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    return count


async def test_nothing_of_a_key_is_lost_when_the_definition_changes(conn: Connection) -> None:
    """A smaller limit holds for runs that come; those under way keep their numbers until they end."""
    task = await limited(conn, limit=3)
    for _ in range(3):
        await queue(conn, task)
    held = await lease_all(conn)
    document: dict[str, Any] = {**await tasks.definition(conn, task["id"], 1), "concurrency": {"limit": 1}}
    async with conn.transaction():
        current = await tasks.get(conn, task["id"], lock=True)
        await tasks.change(conn, current, parse_definition(document), await db.clock(conn))
    newer = [await queue(conn, task) for _ in range(2)]
    assert await lease_all(conn) == []
    await settle(conn, *held)
    assert ids(await lease_all(conn)) == newer[:1]
    assert len(await holders(conn)) == 1


OVER = """
SELECT concurrency_key, count(*) FROM duework.due_work WHERE locked_until IS NOT NULL AND concurrency_key IS NOT NULL
GROUP BY concurrency_key HAVING count(*) > max(concurrency_limit)
"""


class Walker:
    """A worker that leases, ends, fails, parks, gives back and dies at random."""

    def __init__(self, conn: Connection, name: str, seed: int) -> None:
        self.conn = conn
        self.name = name
        self.dice = random.Random(seed)
        self.held: list[Lease] = []

    async def step(self) -> None:
        acts = [
            self.lease,
            self.lease,
            self.settle,
            self.settle,
            self.retry,
            self.park,
            self.give_back,
            self.die,
        ]
        await self.dice.choice(acts)()
        assert await rows(self.conn, OVER) == []

    async def lease(self) -> None:
        self.held += await leases.lease(self.conn, self.name, self.dice.randint(1, 6), LONG)

    def some(self) -> list[Lease]:
        self.dice.shuffle(self.held)
        cut = self.dice.randint(0, len(self.held))
        given, self.held = self.held[:cut], self.held[cut:]
        return given

    async def settle(self) -> None:
        if given := self.some():
            async with self.conn.transaction():
                await leases.settle(self.conn, [run_row(lease) for lease in given], [])

    async def retry(self) -> None:
        if given := self.some():
            await leases.retry(self.conn, [run_row(lease, "failed") for lease in given], [])

    async def park(self) -> None:
        if given := self.some():
            await leases.release(self.conn, [run_row(lease, state={"step": "only"}) for lease in given])

    async def give_back(self) -> None:
        if given := self.some():
            await leases.release(self.conn, [run_row(lease, started_at=None) for lease in given])

    async def die(self) -> None:
        """Everything it holds runs out at once; a scheduler takes it back."""
        gone, self.held = [lease.run_id for lease in self.held], []
        past = "UPDATE duework.due_work SET locked_until = now() - interval '1s' WHERE id = ANY (%s) AND locked_by = %s"
        await self.conn.execute(past.encode(), [gone, self.name])
        async with self.conn.transaction():
            await leases.reap(self.conn)
        async with self.conn.transaction():
            await concurrency.sweep(self.conn)


@pytest.mark.parametrize("seed", range(3))
async def test_a_random_walk_never_admits_too_many(conn: Connection, database_url: str, seed: int) -> None:
    """Eight workers over random keys and limits, through every way a lease can end: never over a limit, none left."""
    dice = random.Random(seed)
    made = [
        await limited(
            conn, f"t{n}", key=f"k{n}", limit=dice.randint(1, 3), on_conflict=dice.choice(ON_CONFLICT)
        )
        for n in range(5)
    ]
    asked = [await queue(conn, dice.choice(made), priority=dice.randint(1, 9)) for _ in range(120)]
    others = [await db.connect(database_url, f"w{n}") for n in range(8)]
    try:
        walkers = [Walker(other, f"w{n}", seed * 100 + n) for n, other in enumerate(others)]

        async def walk(walker: Walker) -> None:
            while await one(walker.conn, "SELECT count(*) FROM duework.due_work"):
                await walker.step()

        async with asyncio.timeout(120):
            await asyncio.gather(*(walk(walker) for walker in walkers))
    finally:
        for other in others:
            await other.close()
    assert await deadlocks(conn) == 0
    ends = await rows(conn, "SELECT run_id FROM duework.task_run WHERE final")
    assert sorted(row["run_id"] for row in ends) == sorted(asked), "each run ended, and ended once"
    assert await holders(conn) == {}


ON_CONFLICT = ("queue", "queue", "skip", "cancel_running")
