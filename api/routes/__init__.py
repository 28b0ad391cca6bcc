"""The routes: one module per noun, each listing its operations beside their handlers."""

from __future__ import annotations

from functools import cache

from api.operations import Operation
from api.routes import (
    agents,
    allowances,
    apply,
    audit,
    backfill,
    events,
    health,
    pages,
    quarantine,
    queue,
    reflex,
    runs,
    schedules,
    submissions,
    tasks,
    tools,
)


@cache
def operations() -> tuple[Operation, ...]:
    """Every operation of the API, in the order of its reference."""
    rooms = (
        tasks,
        submissions,
        schedules,
        backfill,
        apply,
        runs,
        quarantine,
        events,
        tools,
        agents,
        queue,
        audit,
        reflex,
        allowances,
        health,
        pages,
    )
    return tuple(operation for room in rooms for operation in room.OPERATIONS)
