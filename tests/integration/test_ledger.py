"""Promise (a) under a clock of the test's own: every instant is in the ledger exactly once, with its reason."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from engine import db
from engine.db import Connection, Row
from engine.pipeline import parse_definition
from engine.schedule import Schedule
from engine.store import leases, ledger, tasks
from scheduler.tick import tick
from tests.factories import document, make_task, one, rows, run_row

T0 = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HORIZON = GRACE = timedelta(seconds=30)
KINDS: list[dict[str, Any]] = [
    {"every": "7s"},
    {"every": "1m"},
    {"cron": "* * * * *"},
    {"rrule": "FREQ=SECONDLY;INTERVAL=13"},
    {"every": "45s", "catchup": {"policy": "none"}},
    {"every": "30s", "catchup": {"policy": "all", "window": "10m", "max": 5}},
]


async def tick_all(conn: Connection, now: datetime) -> int:
    """Tick as the scheduler does, until nothing more is due; how many occurrences became work."""
    made = 0
    while True:
        async with conn.transaction():
            done = await tick(conn, HORIZON, GRACE, 100, now=now)
        made += done.occurrences
        if not done.more:
            return made


async def written(conn: Connection, task_id: UUID) -> list[Row]:
    """The task's rows of the ledger in order."""
    return await rows(
        conn, "SELECT * FROM duework.occurrence WHERE task_id = %s ORDER BY scheduled_for", task_id
    )


async def work_off(conn: Connection, now: datetime) -> int:
    """Run what is due, as a worker would."""
    held = await leases.lease(conn, "w1", 1000, timedelta(minutes=1), now=now)
    assert await leases.settle(conn, [run_row(lease) for lease in held], []) == {
        lease.run_id for lease in held
    }
    return len(held)


def instants(schedule: Schedule, after: datetime, until: datetime) -> list[datetime]:
    """Every instant in (after, until]."""
    found: list[datetime] = []
    while True:
        more = schedule.next(found[-1] if found else after, 10_000)
        found += [one for one in more if one <= until]
        if len(more) < 10_000 or more[-1] > until:
            return found


def expanded(found: list[Row], expected: list[datetime]) -> Counter[datetime]:
    """How often each instant is in the ledger, ranges spelt out; a counted range must hold what it says."""
    times: Counter[datetime] = Counter()
    for row in found:
        last = row["last_for"] or row["scheduled_for"]
        within = [instant for instant in expected if row["scheduled_for"] <= instant <= last]
        if row["count"] is not None:
            assert len(within) == row["count"], row
            assert (within[0], within[-1]) == (row["scheduled_for"], last), row
        times.update(within)
    return times


class Story:
    """One task through random changes; knows which schedule was in force when. `members` are in each definition."""

    def __init__(self, conn: Connection, seed: int, **members: Any) -> None:
        self.members = members
        self.conn = conn
        self.dice = random.Random(seed)
        self.now = T0
        self.past: list[tuple[Schedule, datetime, datetime]] = []
        self.since = T0
        self.task: Row = {}

    async def begin(self) -> None:
        kind = self.dice.choice(KINDS)
        self.task = await make_task(self.conn, schedule=kind, now=self.now, **self.members)

    async def step(self) -> None:
        # Ticks are frequent; sometimes no scheduler is there for long.
        self.now += SECOND * self.dice.choice([1, 3, 10, 25, 60, 400, 4000])
        acts = [self.ticked, self.ticked, self.ticked, self.worked, self.expired]
        acts += [self.paused, self.resumed, self.snoozed, self.edited]
        await self.dice.choice(acts)()

    async def ticked(self) -> None:
        await tick_all(self.conn, self.now)

    async def worked(self) -> None:
        await work_off(self.conn, self.now)

    async def expired(self) -> None:
        await leases.expire(self.conn, now=self.now)

    async def paused(self) -> None:
        await tasks.pause(self.conn, self.task["id"], self.now)

    async def resumed(self) -> None:
        await tasks.resume(self.conn, self.task["id"], self.now)

    async def snoozed(self) -> None:
        current = await tasks.get(self.conn, self.task["id"])
        if current["status"] == "active":
            until = self.now + SECOND * self.dice.choice([5, 100, 5000])
            await tasks.snooze(self.conn, self.task["id"], self.now, until, None)

    async def edited(self) -> None:
        current = await tasks.get(self.conn, self.task["id"], lock=True)
        self.past.append((ledger.schedule_from(current), self.since, self.now))
        self.since = self.now
        definition = parse_definition(document(schedule=self.dice.choice(KINDS), **self.members))
        await tasks.change(self.conn, current, definition, self.now)

    async def check(self) -> None:
        await tasks.resume(self.conn, self.task["id"], self.now)
        await tick_all(self.conn, self.now)
        current = await tasks.get(self.conn, self.task["id"])
        eras = [*self.past, (ledger.schedule_from(current), self.since, current["next_run"] - SECOND / 1000)]
        expected = [instant for era in eras for instant in instants(*era)]
        assert len(expected) > 50
        found = expanded(await written(self.conn, self.task["id"]), expected)
        assert found == Counter(expected), {
            "lost": [str(i) for i in expected if not found[i]][:5],
            "doubled": [str(i) for i, n in found.items() if n > 1][:5],
        }


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_to_a_task_its_ledger_is_complete(conn: Connection, seed: int) -> None:
    """Ticks, downtimes, pauses, snoozes, edits and work in random order lose no instant and double none."""
    story = Story(conn, seed)
    await story.begin()
    for _ in range(40):
        await story.step()
    await story.check()
    queued = "SELECT count(*) FROM duework.due_work d LEFT JOIN duework.occurrence o ON o.run_id = d.id WHERE o IS NULL"
    assert await one(conn, queued) == 0, "work without its occurrence"
    twice = "SELECT scheduled_for FROM duework.task_run GROUP BY task_id, scheduled_for HAVING count(*) > 1"
    assert await rows(conn, twice) == []


@pytest.mark.parametrize(
    ("catchup", "ran", "missed"),
    [({"policy": "none"}, 0, 60), ({"policy": "last"}, 1, 59), ({"policy": "all", "max": 10}, 10, 50)],
)
async def test_a_downtime_is_caught_up_as_the_task_asks(
    conn: Connection, catchup: dict[str, Any], ran: int, missed: int
) -> None:
    """After an hour without a scheduler: none, the last or all up to a limit run; the rest is one range."""
    task = await make_task(conn, schedule={"cron": "* * * * *", "catchup": catchup}, now=T0)
    late = T0 + timedelta(hours=1, seconds=45)
    await tick_all(conn, late)
    found = await written(conn, task["id"])
    ranges = [row for row in found if row["run_id"] is None]
    due = [row for row in found if row["run_id"] is not None and row["scheduled_for"] > late]
    assert [row["scheduled_for"] for row in due] == [T0 + timedelta(minutes=61)]
    assert sum(row["count"] for row in ranges) == missed
    assert [(row["disposition"], bool(row["reason"])) for row in ranges] == [("missed", True)]
    assert len(found) - len(ranges) - len(due) == ran


@pytest.mark.parametrize("rule", [{"every": "1s"}, {"rrule": "FREQ=SECONDLY"}])
async def test_a_very_long_downtime_costs_one_row(conn: Connection, rule: dict[str, Any]) -> None:
    """A one-second task that nobody ticked for a year leaves a range, not thirty million rows."""
    task = await make_task(conn, schedule=rule, now=T0)
    now = T0 + timedelta(days=365)
    await tick_all(conn, now)
    missed, *ran = await written(conn, task["id"])
    assert missed["scheduled_for"] == T0 + SECOND
    assert missed["count"] == (365 * 86_400 - 31 if "every" in rule else None)
    assert [row["scheduled_for"] for row in ran] == [now + n * SECOND for n in range(-30, 31)], (
        "the newest ones, on time within the grace, replace all older ones"
    )


async def test_a_pause_withdraws_and_is_accounted_for(conn: Connection) -> None:
    """Rows that lie ready go with their occurrences; the instants of the pause become one suppressed range."""
    task = await make_task(conn, schedule={"every": "10s"}, now=T0)
    await tick_all(conn, T0)
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 3
    await tasks.pause(conn, "job", T0 + 15 * SECOND, "maintenance")
    assert [row["scheduled_for"] for row in await written(conn, task["id"])] == [T0 + 10 * SECOND]
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 1, "what was due stays"
    assert await tick_all(conn, T0 + 60 * SECOND) == 0
    await tasks.resume(conn, "job", T0 + 65 * SECOND)
    (_, suppressed) = await written(conn, task["id"])
    assert (suppressed["disposition"], suppressed["count"]) == ("suppressed", 5)
    assert (suppressed["scheduled_for"], suppressed["last_for"]) == (T0 + 20 * SECOND, T0 + 60 * SECOND)
    assert suppressed["reason"] == "paused: maintenance"
    assert (await tasks.get(conn, "job"))["next_run"] == T0 + 70 * SECOND


async def test_a_canceled_task_runs_no_more(conn: Connection) -> None:
    """What is due and was not begun ends with its task, in history; what is under way is left to end by itself."""
    task = await make_task(conn, schedule={"every": "10s"}, now=T0)
    await tick_all(conn, T0)
    now = T0 + 25 * SECOND
    (held,) = await leases.lease(conn, "w1", 1, timedelta(minutes=1), now=now)
    await tasks.cancel(conn, "job", now)
    assert await one(conn, "SELECT id FROM duework.due_work") == held.run_id
    assert len(await written(conn, task["id"])) == 2
    (ended,) = await rows(conn, "SELECT * FROM duework.runs WHERE status = 'canceled'")
    assert ended["scheduled_for"] == T0 + 20 * SECOND
    assert ended["error"]["message"] == "the task was canceled before this run began"


async def test_a_run_that_began_as_the_pause_came_is_counted_once(conn: Connection) -> None:
    """A worker may lease an instant between the pause's own instant and its withdrawal; both stay in order."""
    task = await make_task(conn, schedule={"every": "10s"}, now=T0)
    await tick_all(conn, T0)
    assert await work_off(conn, T0 + 20 * SECOND) == 2
    await tasks.pause(conn, "job", T0 + 5 * SECOND)
    await tasks.resume(conn, "job", T0 + 45 * SECOND)
    found = await written(conn, task["id"])
    assert [(row["disposition"], row["count"]) for row in found] == [
        ("scheduled", 1),
        ("scheduled", 1),
        ("suppressed", 2),
    ]


async def test_an_edit_withdraws_and_plans_anew(conn: Connection) -> None:
    """The old future goes, the new one comes, and an instant that both share runs under the new version."""
    task = await make_task(conn, schedule={"every": "10s"}, now=T0)
    await tick_all(conn, T0)
    current = await tasks.get(conn, "job", lock=True)
    changed = await tasks.change(
        conn, current, parse_definition(document(schedule={"every": "15s"})), T0 + SECOND
    )
    assert changed["version"] == 2
    assert await written(conn, task["id"]) == []
    await tick_all(conn, T0 + SECOND)
    work = await rows(conn, "SELECT scheduled_for, task_version FROM duework.due_work ORDER BY scheduled_for")
    assert [(row["scheduled_for"], row["task_version"]) for row in work] == [
        (T0 + 15 * SECOND, 2),
        (T0 + 30 * SECOND, 2),
    ]


async def test_an_edit_during_a_downtime_forgets_nothing(conn: Connection) -> None:
    """What was due before a change, and that no scheduler had come to, is missed and not lost."""
    task = await make_task(conn, schedule={"every": "10s"}, now=T0)
    current = await tasks.get(conn, "job", lock=True)
    now = T0 + timedelta(minutes=10)
    await tasks.change(conn, current, parse_definition(document(schedule={"every": "20s"})), now)
    (missed,) = await written(conn, task["id"])
    assert (missed["disposition"], missed["count"]) == ("missed", 60)
    assert "before a scheduler came to it" in missed["reason"]


async def test_a_snooze_that_is_cut_short_gives_its_instants_back(conn: Connection) -> None:
    """Snoozing again, or editing, plans the rest of the snooze anew instead of accounting for it twice."""
    task = await make_task(conn, schedule={"every": "10s"}, now=T0)
    await tasks.snooze(conn, "job", T0 + SECOND, T0 + 100 * SECOND, "holiday")
    assert (await written(conn, task["id"]))[0]["count"] == 9
    await tasks.snooze(conn, "job", T0 + 35 * SECOND, T0 + 60 * SECOND, None)
    await tick_all(conn, T0 + 35 * SECOND)
    found = await written(conn, task["id"])
    assert [(row["disposition"], row["count"], row["reason"]) for row in found] == [
        ("suppressed", 3, "snoozed: holiday"),
        ("suppressed", 2, "the task was snoozed"),
        ("scheduled", 1, None),
    ]
    assert found[-1]["scheduled_for"] == T0 + 60 * SECOND


async def test_a_once_that_is_edited_as_it_comes_due_still_runs(conn: Connection) -> None:
    """A `once` of a moment ago is still meant when a new title arrives before the tick."""
    moment = {"once": "2026-03-02T12:00:10"}
    await make_task(conn, schedule=moment, now=T0)
    current = await tasks.get(conn, "job", lock=True)
    now = T0 + 15 * SECOND
    await tasks.change(conn, current, parse_definition(document(schedule=moment, title="new")), now)
    assert await tick_all(conn, now) == 1


async def test_work_that_nobody_starts_in_time_is_missed(conn: Connection) -> None:
    """When the window of an instant ends unstarted, its row goes and the ledger says why; a started one stays."""
    task = await make_task(conn, schedule={"every": "10s", "catchup": {"policy": "none"}}, now=T0)
    await tick_all(conn, T0)
    (held,) = await leases.lease(conn, "w1", 1, timedelta(hours=1), now=T0 + 10 * SECOND)
    gone = await leases.expire(conn, now=T0 + 55 * SECOND)
    assert [row["scheduled_for"] for row in gone] == [T0 + 20 * SECOND]
    assert await leases.lease(conn, "w1", 9, timedelta(hours=1), now=T0 + 65 * SECOND) == [], (
        "too late for the third"
    )
    found = {row["scheduled_for"]: row for row in await written(conn, task["id"])}
    missed = found[T0 + 20 * SECOND]
    assert missed["disposition"] == "missed"
    assert "no worker started it" in missed["reason"]
    assert await one(conn, "SELECT status FROM duework.runs WHERE run_id = %s", missed["run_id"]) == "missed"
    assert found[T0 + 10 * SECOND]["disposition"] == "scheduled"
    assert await leases.settle(conn, [run_row(held)], []) == {held.run_id}


@pytest.mark.parametrize("end", ["drained", "parked"])
async def test_a_run_that_was_given_back_never_expires(conn: Connection, end: str) -> None:
    """A drained or parked run has begun: however late it is taken up again, it runs and is not missed."""
    await make_task(conn, schedule={"every": "10s", "catchup": {"policy": "none"}}, now=T0)
    await tick_all(conn, T0)
    (held,) = await leases.lease(conn, "w1", 1, timedelta(hours=1), now=T0 + 10 * SECOND)
    given: dict[str, Any] = {"delay": 600, "state": {"step": "only"}} if end == "parked" else {}
    await leases.release(conn, [run_row(held, **given)], now=T0 + 20 * SECOND)
    later = T0 + timedelta(minutes=20)
    await leases.promote(conn, now=later)
    await leases.expire(conn, now=later)
    (again,) = await leases.lease(conn, "w1", 9, timedelta(hours=1), now=later)
    assert (again.run_id, again.attempt) == (held.run_id, 1)


async def test_a_lease_that_never_started_still_expires(conn: Connection) -> None:
    """What a worker had only laid ready and gave back is like never taken."""
    await make_task(conn, schedule={"every": "10s", "catchup": {"policy": "none"}}, now=T0)
    await tick_all(conn, T0)
    (held,) = await leases.lease(conn, "w1", 1, timedelta(hours=1), now=T0 + 10 * SECOND)
    await leases.release(conn, [run_row(held, started_at=None)], now=T0 + 20 * SECOND)
    gone = await leases.expire(conn, now=T0 + 50 * SECOND)
    assert held.run_id in {row["run_id"] for row in gone}


async def test_two_schedulers_tick_at_once(conn: Connection, database_url: str) -> None:
    """While one tick holds a task the other passes it by; afterwards there is nothing left to do."""
    await make_task(conn, schedule={"every": "1s"}, now=T0)
    async with await db.connect(database_url, "other") as other:
        async with conn.transaction():
            assert (await tick(conn, HORIZON, GRACE, 100, now=T0)).occurrences == 30
            async with other.transaction():
                assert (await tick(other, HORIZON, GRACE, 100, now=T0)).tasks == 0
        assert await tick_all(other, T0) == 0
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 30


async def test_the_ledger_guards_what_the_row_lock_does_not(conn: Connection) -> None:
    """Even a next_run that was set back makes no second run of an instant."""
    task = await make_task(conn, schedule={"every": "1s"}, now=T0)
    assert await tick_all(conn, T0) == 30
    await conn.execute("UPDATE duework.task SET next_run = %s", [T0 + SECOND])
    assert await tick_all(conn, T0 + 5 * SECOND) == 5
    assert len(await written(conn, task["id"])) == 35
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 35


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE duework.task SET schedule_expr = 'FREQ=NEVER' WHERE name = 'bad'",
        "UPDATE duework.task SET timezone = 'Mars/Olympus' WHERE name = 'bad'",
        "UPDATE duework.task SET schedule_options = '{\"jitter\": \"x\"}' WHERE name = 'bad'",
        'UPDATE duework.task SET schedule_options = \'{"catchup": {"policy": "some"}}\' WHERE name = \'bad\'',
        'UPDATE duework.task SET schedule_options = \'{"catchup": {"policy": "all", "max": 2.5}}\', '
        "next_run = next_run - interval '20 hours', schedule_start = '2020-01-01' WHERE name = 'bad'",
    ],
)
async def test_one_unreadable_schedule_stops_nobody_else(conn: Connection, damage: str) -> None:
    """A stored schedule that cannot be read is set aside; the other tasks of its batch go on."""
    await make_task(conn, "bad", schedule={"rrule": "FREQ=MINUTELY"}, now=T0)
    await make_task(conn, "good", schedule={"cron": "* * * * *"}, now=T0)
    await conn.execute(damage.encode())
    assert await tick_all(conn, T0 + 40 * SECOND) == 1
    assert (
        await one(conn, "SELECT t.name FROM duework.due_work d JOIN duework.task t ON t.id = d.task_id")
        == "good"
    )
    assert (await tasks.get(conn, "bad"))["next_run"] is None
    current = await tasks.get(conn, "bad", lock=True)
    mended = await tasks.change(
        conn, current, parse_definition(document("bad", schedule={"every": "1m"})), T0
    )
    assert mended["next_run"] is not None, "a new definition mends it"


async def test_jitter_moves_the_start_and_not_the_instant(conn: Connection) -> None:
    """The ledger keeps the instant that the schedule names; run_at lies within the jitter, the same each time."""
    await make_task(conn, schedule={"every": "10s", "jitter": "5s"}, now=T0)
    await tick_all(conn, T0)
    found = await rows(conn, "SELECT scheduled_for, run_at FROM duework.due_work")
    offsets = [row["run_at"] - row["scheduled_for"] for row in found]
    assert all(timedelta(0) <= offset <= 5 * SECOND for offset in offsets)
    assert len(set(offsets)) > 1
