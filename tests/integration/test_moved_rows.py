"""Statements that meet a row which somebody has just changed: they look again, and the server survives it.

PostgreSQL 18.6 was seen to crash (in perform_pruning_base_step, of release_runs) where a changing CTE prunes partitions
while it runs and the statement looks at a locked row again, so no such CTE compares the queue's partition key so that
it could be pruned by.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from importlib import resources
from typing import Any

import pytest

from engine import db
from engine.db import Connection
from engine.store import leases
from engine.store.leases import Lease
from tests.factories import make_task, queue, run_row
from tests.factories import waits as blocked
from tests.polling import poll_until

PRUNES = re.compile(r"\bw\.slot = [a-z]+\.slot")
ENDS: dict[str, Callable[[Connection, Sequence[Lease]], Awaitable[Any]]] = {
    "release": lambda conn, held: leases.release(conn, [run_row(one, delay=60, state={}) for one in held]),
    "retry": lambda conn, held: leases.retry(conn, [run_row(one, "failed", delay=60) for one in held], []),
}


def test_no_changing_cte_prunes_at_run_time() -> None:
    """The key is compared as `slot + 0`, which the planner does not recognise."""
    files = [one for one in resources.files("engine.store.queries").iterdir() if one.name.endswith(".sql")]
    assert len(files) > 50
    found = {one.name for one in files if PRUNES.search(one.read_text())}
    assert found == {"move_stragglers.sql"}, "that one changes rows in no CTE, and on no worker's connection"


@pytest.mark.parametrize("end", ENDS)
async def test_a_row_that_is_being_renewed_is_looked_at_again(
    conn: Connection, database_url: str, end: str
) -> None:
    """The renewal commits while the end waits for it; the end then finds the row, and the server still answers."""
    task = await make_task(conn)
    for _ in range(40):
        await queue(conn, task)
    held = await leases.lease(conn, "w1", 40, timedelta(minutes=1))
    async with await db.connect(database_url, "worker") as worker:
        for _ in range(12):  # until its plan is the generic one
            await ENDS[end](worker, [])
        async with conn.transaction():
            await leases.renew(conn, [(one.run_id, one.fence) for one in held[::2]], timedelta(minutes=1))
            ending = asyncio.ensure_future(ENDS[end](worker, held))
            await poll_until(lambda: blocked(conn, worker))
        assert len(await ending) == 40
