"""`cancel_running`: whoever is told to wait for a number has told somebody to give one up."""

from __future__ import annotations

from engine.db import Connection
from engine.store import leases
from tests.factories import one, queue
from tests.integration.test_concurrency import LONG, lease_all, limited, settle, waiting

ASKED = "SELECT count(*) FROM duework.due_work WHERE cancel_reason IS NOT NULL"


async def test_a_busy_worker_tells_a_holder_for_each_that_came(conn: Connection) -> None:
    """Three came and the worker that noticed has room for one: all three holders are told, not one."""
    task = await limited(conn, limit=3, on_conflict="cancel_running")
    for _ in range(3):
        await queue(conn, task)
    assert len(await lease_all(conn)) == 3
    arrived = [await queue(conn, task) for _ in range(3)]
    assert await leases.lease(conn, "w2", 1, LONG) == []
    assert await waiting(conn) == arrived
    assert await one(conn, ASKED) == 3


async def test_one_that_was_not_leased_with_the_others_tells_a_holder_too(conn: Connection) -> None:
    """A worker that was refused a patient run of the key turns an impatient one away with it, and tells the holder."""
    patient = await limited(conn, "patient", key="shared", on_conflict="queue")
    impatient = await limited(conn, "impatient", key="shared", on_conflict="cancel_running")
    await queue(conn, patient)
    assert len(await lease_all(conn)) == 1
    arrived = [await queue(conn, patient), await queue(conn, impatient)]
    assert await leases.lease(conn, "w2", 1, LONG) == []
    assert await waiting(conn) == arrived
    assert await one(conn, ASKED) == 1


async def test_one_that_comes_to_a_new_holder_tells_that_one(conn: Connection) -> None:
    """The holder that was told ends at that moment and an earlier rival gets its number: that one is told as well."""
    task = await limited(conn, on_conflict="cancel_running")
    await queue(conn, task)
    (first,) = await lease_all(conn)
    second = await queue(conn, task)
    assert await lease_all(conn) == []
    await queue(conn, task)
    taken, refused = await leases.take(conn, "w2", 1, LONG)
    assert taken == []
    await settle(conn, first, status="canceled")
    (held,), _ = await leases.take(conn, "w1", 1, LONG)
    assert held.run_id == second
    assert await leases.turn_away(conn, refused) == 1
    assert await one(conn, ASKED) == 1
