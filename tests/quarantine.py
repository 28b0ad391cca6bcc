"""A worker within the test's own process, whose tools answer what the test says: for runs that the gate blocks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from engine.db import Connection, Pool, Row
from engine.metrics import Metrics
from engine.plan import StepRecord
from engine.settings import Settings
from engine.store import leases, quarantine
from engine.store.leases import Lease
from engine.tools.calls import Call
from engine.tools.entry import ToolEntry
from engine.tools.toolbox import Toolbox
from tests.factories import dump, lease_one, make_task, queue, rows, step
from tests.stage import catalog
from workers.runner import Held, Runner
from workers.settler import Settlement, Settler

SSN, OTHER = "219-44-8071", "219-44-8072"
NOTE = {"body": {"note": f"call {SSN} back"}}
TABLES = ("task_run", "step_run", "checkpoint", "held_run", "due_work", "audit_log", "wait", "refusal")


@dataclass(slots=True)
class Bench:
    """`answers` by step, a value or a function of the call; `calls` are (step, arguments, idempotency key)."""

    pool: Pool
    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, Any, str]] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)

    async def call(self, _entry: ToolEntry, arguments: dict[str, Any], call: Call) -> Any:
        """What the toolbox answers."""
        self.calls.append((call.step, arguments, call.idempotency_key))
        answer = self.answers.get(call.step, arguments)
        if isinstance(answer, Exception):
            raise answer
        return answer(call) if callable(answer) else answer

    def called(self) -> list[str]:
        """The idempotency keys of the calls since this was last asked, without their run."""
        keys = [key.partition(":")[2] for _, _, key in self.calls]
        self.calls.clear()
        return keys

    async def execute(self, conn: Connection, lease: Lease | None = None) -> Settlement:
        """What becomes of a lease, of the next one unless it is given; nothing of that is written."""
        held = await holding(conn, lease or await lease_one(conn, seconds=300))
        settlement = await Runner(self.settings, self.pool, cast(Toolbox, self), catalog(), Metrics()).run(
            held
        )
        assert settlement is not None, "the lease was lost"
        return settlement

    async def settle(self, settlement: Settlement) -> bool:
        """Write it; whether its fence was good."""
        told: list[bool] = []
        settler = Settler(self.pool)
        await settler.add(settlement, told.append)
        await settler.flush()
        return told == [True]

    async def work(self, conn: Connection) -> Settlement:
        """The next lease, from its beginning to its end."""
        settlement = await self.execute(conn)
        assert await self.settle(settlement)
        return settlement


async def holding(conn: Connection, lease: Lease) -> Held:
    """A lease as a worker holds it that has just taken it."""
    now = time.monotonic()
    held = Held(lease, now + 300, now, now)
    if lease.leased_before:
        found = await leases.checkpoints(conn, [lease.run_id])
        held.resume(StepRecord.of(one) for one in found[lease.run_id])
    return held


async def release(conn: Connection, run_id: UUID, **members: Any) -> list[Row]:
    """Release a run, as the route does: in one transaction."""
    async with conn.transaction():
        return await quarantine.release(conn, run_id, "ada", "her own number", **members)


async def refuse(conn: Connection, run_id: UUID) -> list[Row]:
    """Refuse to."""
    async with conn.transaction():
        return await quarantine.refuse(conn, run_id, "ada", "this stays here")


async def findings(conn: Connection, run_id: UUID) -> list[Row]:
    """What a run is held for."""
    held = await rows(
        conn, "SELECT findings FROM duework.quarantine WHERE run_id = %s AND status = 'held'", run_id
    )
    return [finding for row in held for finding in row["findings"]]


async def status(conn: Connection, run_id: UUID) -> str:
    """Of the one row that the run has in `duework.runs`."""
    (row,) = await rows(conn, "SELECT status FROM duework.runs WHERE run_id = %s", run_id)
    return str(row["status"])


async def stored(conn: Connection) -> str:
    """Everything that is stored of runs, as one text."""
    return str(await dump(conn, *TABLES))


async def blocked(conn: Connection, bench: Bench, *steps: dict[str, Any], **members: Any) -> UUID:
    """A run of these steps, which the gate has blocked."""
    run_id = await queue(conn, await make_task(conn, steps=steps or [step("a", "t.once")], **members))
    settlement = await bench.work(conn)
    assert settlement.status == "blocked", settlement
    assert await status(conn, run_id) == "blocked"
    return run_id


async def history(conn: Connection, run_id: UUID) -> list[tuple[Any, ...]]:
    """(step, item, attempt, status) of its rows."""
    columns = "step, item, attempt, status"
    order = "attempt, position, item"
    found = await rows(
        conn, f"SELECT {columns} FROM duework.steps WHERE run_id = %s ORDER BY {order}", run_id
    )
    return [tuple(row.values()) for row in found]
