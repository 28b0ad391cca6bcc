"""Views that the API reads, for request-shaped selects; beside `tables.py`, whose metadata are the tables alone."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Double, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from engine.store.columns import INSTANT

_views = MetaData(schema="duework")


def _runs(name: str) -> Table:
    return Table(
        name,
        _views,
        Column("run_id", UUID()),
        Column("task_id", UUID()),
        Column("task", Text),
        Column("task_version", Integer),
        Column("trigger", Text),
        Column("status", Text),
        Column("success", Boolean),
        Column("attempt", Integer),
        Column("scheduled_for", INSTANT),
        Column("started_at", INSTANT),
        Column("finished_at", INSTANT),
        Column("duration_ms", Double),
        Column("params", JSONB),
        Column("output", JSONB),
        Column("error", JSONB),
        Column("worker", Text),
        Column("parent_run_id", UUID()),
    )


runs_view = _runs("runs")
runs_parts = (_runs("runs_ended"), _runs("runs_live"), _runs("runs_unstarted"))

quarantine_view = Table(
    "quarantine",
    _views,
    Column("run_id", UUID()),
    Column("attempt", Integer),
    Column("task_id", UUID()),
    Column("task", Text),
    Column("task_version", Integer),
    Column("status", Text),
    Column("held_at", INSTANT),
    Column("findings", JSONB),
    Column("decided_at", INSTANT),
    Column("decided_by", Text),
    Column("reason", Text),
    Column("released", ARRAY(Text)),
)

allowances_view = Table(
    "allowances",
    _views,
    Column("id", UUID()),
    Column("task_id", UUID()),
    Column("task", Text),
    Column("kind", Text),
    Column("form", Text),
    Column("pattern", Text),
    Column("status", Text),
    Column("reason", Text),
    Column("author", Text),
    Column("created_at", INSTANT),
    Column("expires_at", INSTANT),
    Column("revoked_at", INSTANT),
    Column("revoked_by", Text),
)
