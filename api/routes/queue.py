"""/workers and /queue: who works, and on what."""

from __future__ import annotations

from datetime import timedelta

from api.operations import LIMIT, Answer, Call, Operation
from engine import db
from engine.store import workers

ALIVE = timedelta(seconds=30)
"""A worker that was heard of within this time lives, as in `duework.workers`."""


async def listing(call: Call) -> Answer:
    """Worker and scheduler processes with their heartbeats."""
    now = await db.clock(call.conn)
    found = [{**row, "alive": row["last_seen"] > now - ALIVE} for row in await workers.page(call.conn)]
    return Answer({"items": found, "schedulers": await workers.schedulers(call.conn)})


async def queue(call: Call) -> Answer:
    """The state of the queue, and the work that is next."""
    state = await workers.queue_state(call.conn)
    return Answer(
        {
            "ready": state["ready"],
            "leased": state["leased"],
            "oldest_seconds": state["oldest"],
            "tick_age_seconds": state["tick_age"],
            "workers": state["workers"],
            "items": await workers.queue(call.conn, limit=call.query["limit"]),
        }
    )


OPERATIONS = (
    Operation("GET", "/workers", listing, "queue", "Workers and schedulers", {200: "Workers"}, scope="run:read"),
    Operation(
        "GET", "/queue", queue, "queue", "The state of the queue", {200: "Queue"},
        scope="run:read", query=(LIMIT,),
    ),
)  # fmt: skip
