"""Steps that have begun when their run ends without them: one row each, whoever ends the run and whatever is known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from engine import db
from engine.db import Connection, Pool
from engine.metrics import Metrics
from engine.plan import StepRecord
from engine.settings import Settings
from engine.store import leases, waits
from engine.store.leases import Lease
from engine.store.waits import Place, Wanted
from engine.tools.registry import Catalog, load_catalog
from engine.tools.toolbox import open_toolbox
from scheduler import reaper
from tests.factories import lease_one, make_task, one, queue, record, rows, run_row, step
from workers.runner import Held, Runner
from workers.settler import Settlement, Settler

CANCELED = {"code": "canceled", "message": "enough"}


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with db.pool(Settings(database_url=database_url), "test", size=3) as made:
        yield made


def waiting(lease: Lease, *keys: str, kind: str = "steps") -> dict[str, Any]:
    """The state of a run whose steps or items of these keys wait."""
    since = lease.leased_at.isoformat()
    wait = {"tries": 0, "resumed": True, "until": None, "early": True, "tool": "core.approval"}
    return {kind: {key: wait | {"position": 0, "started_at": since} for key in keys}}


async def keep(conn: Connection, lease: Lease, name: str, item: int | None = None, **members: Any) -> None:
    """A checkpoint of a step of the run."""
    made = record(lease, name, item=item, **members)
    place = name, -1 if item is None else item
    assert await leases.checkpoint(conn, lease.run_id, lease.fence, *place, made.as_dict())


async def parked(conn: Connection, *keys: str, **members: Any) -> Lease:
    """A run of which `keys` wait; the lease that parked it."""
    await queue(conn, await make_task(conn, **members))
    lease = await lease_one(conn)
    assert await leases.release(conn, [run_row(lease, state=waiting(lease, *keys))])
    return lease


async def ended(conn: Connection, run_id: UUID) -> list[tuple[Any, ...]]:
    """Step, item and status of a run's rows, once nothing is left of it but its history."""
    assert await rows(conn, "SELECT FROM duework.due_work UNION ALL SELECT FROM duework.checkpoint") == []
    found = await rows(
        conn,
        "SELECT step, item, status FROM duework.steps WHERE run_id = %s ORDER BY step, item NULLS FIRST",
        run_id,
    )
    return [tuple(row.values()) for row in found]


async def lost(conn: Connection, pool: Pool) -> None:
    """Every lease runs out, and is reaped."""
    await conn.execute(
        "UPDATE duework.due_work SET locked_until = now() - interval '1 s' WHERE locked_by <> ''"
    )
    await reaper.reap(pool, Metrics())


async def test_a_step_that_has_ended_since_the_run_was_parked_has_one_row(
    conn: Connection, pool: Pool
) -> None:
    """The state is that of the lease before; what the lost lease has checkpointed is not canceled besides."""
    first = await parked(conn, "done", "waits", "each:0", "each:1")
    lease = await lease_one(conn)
    await keep(conn, lease, "done")
    await keep(conn, lease, "each", status="running", input=[1, 2])
    await keep(conn, lease, "each", 0)
    await lost(conn, pool)
    assert await leases.cancel(conn, first.run_id, "enough") == "canceled"
    assert await ended(conn, first.run_id) == [
        ("done", None, "succeeded"), ("each", None, "canceled"), ("each", 0, "succeeded"), ("each", 1, "canceled"),
        ("waits", None, "canceled"),
    ]  # fmt: skip


@pytest.mark.parametrize("canceled", [False, True])
async def test_what_waited_when_the_last_lease_was_lost(conn: Connection, pool: Pool, canceled: bool) -> None:
    """It ends with its run, whether that is dead or was to be canceled."""
    first = await parked(conn, "waits")
    for attempt in range(1 if canceled else 3):
        lease = await lease_one(conn)
        assert lease.attempt == attempt + 1
        if canceled:
            assert await leases.cancel(conn, lease.run_id, "enough") == "canceling"
        await lost(conn, pool)
    assert await ended(conn, first.run_id) == [("waits", None, "canceled")]
    assert await one(conn, "SELECT status FROM duework.runs") == ("canceled" if canceled else "dead")


async def test_the_lease_for_on_failure_knows_what_waited(conn: Connection, pool: Pool) -> None:
    """The run that was given up keeps it in its state, and is not shown as waiting."""
    await parked(conn, "waits", on_failure=[step("tell")])
    for _ in range(3):
        await lease_one(conn)
        await lost(conn, pool)
    lease = await lease_one(conn)
    assert lease.state is not None
    assert (list(lease.state["later"]), lease.state["failure"]["status"]) == (["waits"], "expired")


@pytest.mark.parametrize("promised", [False, True])
async def test_what_waits_between_two_attempts_is_canceled_with_its_run(
    conn: Connection, promised: bool
) -> None:
    """Before the next attempt, or by the very statement that would have put the run back."""
    await queue(conn, await make_task(conn))
    lease = await lease_one(conn)
    if promised:
        await leases.cancel(conn, lease.run_id, "enough")
    state = waiting(lease, "waits", kind="later")
    assert await leases.retry(conn, [run_row(lease, "failed", state=state, delay=60)], [])
    if not promised:
        assert await leases.cancel(conn, lease.run_id, "enough") == "canceled"
    assert await ended(conn, lease.run_id) == [("waits", None, "canceled")]


async def taken(conn: Connection) -> Held:
    """The next lease, of a run that has not been under way before."""
    now = time.monotonic()
    return Held(await lease_one(conn, seconds=300), now + 300, now, now)


async def held(conn: Connection) -> Held:
    """The next lease, as a worker takes it."""
    made = await taken(conn)
    lease = made.lease
    made.resume(StepRecord.of(one) for one in (await leases.checkpoints(conn, [lease.run_id]))[lease.run_id])
    return made


async def settle(pool: Pool, settlement: Settlement | None) -> None:
    assert settlement is not None
    settler = Settler(pool)
    await settler.add(settlement, lambda kept: None)
    await settler.flush()


@pytest.mark.parametrize("stop", ["enough", None])
async def test_a_run_that_ends_before_its_attempt_begins_keeps_its_steps(
    conn: Connection, pool: Pool, stop: str | None
) -> None:
    """Canceled at that moment, or of a tool that has left the catalog: what earlier leases have done stays told."""
    await queue(conn, await make_task(conn))
    lease = await lease_one(conn)
    await keep(conn, lease, "done")
    await keep(conn, lease, "each", status="running", input=[1, 2])
    await keep(conn, lease, "each", 0)
    state = waiting(lease, "each:1", "waits")
    assert await leases.release(conn, [run_row(lease, state=state)])
    settings = Settings()
    async with open_toolbox(settings, pool) as toolbox:
        runner = Runner(settings, pool, toolbox, Catalog({}), Metrics())
        again = await held(conn)
        again.stop = stop
        await settle(pool, runner.stopped(again) if stop else await runner.run(again))
    assert await one(conn, "SELECT status FROM duework.runs") == ("canceled" if stop else "failed")
    assert await ended(conn, lease.run_id) == [
        ("done", None, "succeeded"), ("each", None, "canceled"), ("each", 0, "succeeded"), ("each", 1, "canceled"),
        ("waits", None, "canceled"),
    ]  # fmt: skip


async def test_a_result_that_cannot_be_stored_takes_no_checkpoint_with_it(
    conn: Connection, pool: Pool
) -> None:
    """The run fails without its rows; those that were stored before are its history."""
    await queue(conn, await make_task(conn))
    lease = await lease_one(conn)
    await keep(conn, lease, "done")
    steps = (record(lease, "done"), record(lease, "bad", position=1, output="\x00"))
    times = lease.leased_at, lease.leased_at
    bad = Settlement("settle", lease.run_id, lease.fence, "succeeded", *times, steps=steps, checkpointed=True)
    await settle(pool, bad)
    assert await one(conn, "SELECT status FROM duework.runs") == "failed"
    assert await ended(conn, lease.run_id) == [("done", None, "succeeded")]


async def test_a_list_has_not_ended_before_its_items_are_kept(
    conn: Connection, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease that is lost while the run parks leaves no end of a foreach without the results of its items."""
    write = leases.checkpoint

    async def lost(conn: Connection, run_id: UUID, fence: int, name: str, item: int, kept: Any) -> bool:
        return item != 0 and await write(conn, run_id, fence, name, item, kept)

    monkeypatch.setattr(leases, "checkpoint", lost)
    steps = [
        step("each", foreach=[1, 2], with_={"n": "${item}"}),
        step("nap", "core.sleep", with_={"seconds": 3600}),
    ]
    await queue(conn, await make_task(conn, steps=steps))
    settings = Settings()
    async with open_toolbox(settings, pool) as toolbox:
        runner = Runner(settings, pool, toolbox, load_catalog(settings), Metrics())
        assert await runner.run(await taken(conn)) is None
    kept = await rows(
        conn, "SELECT item, record ->> 'status' AS status FROM duework.checkpoint WHERE step = 'each'"
    )
    assert [(row["item"], row["status"]) for row in kept] == [(-1, "running")]


async def test_a_checkpoint_that_was_written_unheard_goes_with_its_run(
    conn: Connection, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is canceled while its first checkpoint is being written leaves nothing behind."""
    written, write = asyncio.Event(), leases.checkpoint

    async def unheard(*given: Any) -> bool:
        assert await write(*given)
        written.set()
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(leases, "checkpoint", unheard)
    settings = Settings()
    lists = step("each", foreach=[1])
    run_id = await queue(conn, await make_task(conn, steps=[lists]))
    async with open_toolbox(settings, pool) as toolbox:
        runner = Runner(settings, pool, toolbox, load_catalog(settings), Metrics())
        under_way = await held(conn)
        task = asyncio.create_task(runner.run(under_way))
        await written.wait()
        under_way.stop = "enough"
        task.cancel()
        await settle(pool, await task)
    assert await one(conn, "SELECT status FROM duework.runs") == "canceled"
    assert await ended(conn, run_id) == [("each", None, "canceled")]


async def test_an_end_that_nobody_told_is_told_by_the_reaper(conn: Connection, pool: Pool) -> None:
    """A worker that knows no waits, or dies between two statements, ends a run that another waits for."""
    await queue(conn, await make_task(conn, "parent"))
    parent = await lease_one(conn)
    child = await queue(conn, await make_task(conn, "child"))
    async with conn.transaction():
        assert await waits.watch(conn, child)
        wanted = Wanted("run", child_run_id=child, timeout=timedelta(days=1))
        await waits.enter(conn, Place(parent.run_id, "asks"), parent.fence, wanted)
    state, day = waiting(parent, "asks"), 86_400
    assert await leases.release(conn, [run_row(parent, state=state, delay=day)])
    await reaper.reap(pool, Metrics())
    assert await one(conn, "SELECT resolved_at FROM duework.wait") is None, "the child is live"
    await conn.execute("UPDATE duework.due_work SET linked = false WHERE id = %s", [child])
    ending = await lease_one(conn)
    assert await leases.settle(conn, [run_row(ending, output=7)], []) == {child}
    assert await leases.lease(conn, "w1", 9, timedelta(seconds=9)) == []
    await reaper.reap(pool, Metrics())
    assert (await lease_one(conn)).run_id == parent.run_id
    resolution = await one(conn, "SELECT resolution FROM duework.wait")
    assert resolution == {"status": "succeeded", "output": 7, "error": None}


async def test_a_run_that_has_failed_stays_so_when_its_worker_dies_within_on_failure(
    conn: Connection, pool: Pool
) -> None:
    """The next lease has on_failure alone to do; a stale worker says nothing."""
    await queue(conn, await make_task(conn, on_failure=[step("tell")]))
    lease = await lease_one(conn)
    failure = {"failure": {"status": "failed", "error": CANCELED}}
    assert await leases.remember(conn, lease.run_id, lease.fence, failure)
    await lost(conn, pool)
    assert not await leases.remember(conn, lease.run_id, lease.fence, {})
    assert (await lease_one(conn)).state == failure
