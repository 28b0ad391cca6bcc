"""The tables as SQLAlchemy metadata: for request-shaped selects, and for the test that compares it with the
migrated schema. Constraints, indexes and views live in `migrations/sql/`; here are only columns.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    FetchedValue,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP, UUID

metadata = MetaData(schema="duework")
INSTANT = DateTime(timezone=True)


def _key(name: str, kind: Any, **more: Any) -> Column[Any]:
    return Column(name, kind, primary_key=True, **more)


def _must(name: str, kind: Any) -> Column[Any]:
    return Column(name, kind, nullable=False)


def _filled(name: str, kind: Any, *, nullable: bool = False) -> Column[Any]:
    """A column that the database fills when an INSERT leaves it out."""
    return Column(name, kind, nullable=nullable, server_default=FetchedValue())


def _may(name: str, kind: Any) -> Column[Any]:
    return Column(name, kind, nullable=True)


agent = Table(
    "agent",
    metadata,
    _key("id", UUID(), server_default=FetchedValue()),
    _must("name", Text),
    _filled("scopes", ARRAY(Text)),
    _may("webhook_url", Text),
    _filled("active", Boolean),
    _filled("created_at", INSTANT),
    _filled("updated_at", INSTANT),
)
agent_token = Table(
    "agent_token",
    metadata,
    _key("digest", LargeBinary),
    _must("agent_id", UUID()),
    _filled("label", Text),
    _filled("created_at", INSTANT),
    _may("expires_at", INSTANT),
    _may("revoked_at", INSTANT),
)
task = Table(
    "task",
    metadata,
    _key("id", UUID(), server_default=FetchedValue()),
    _must("name", Text),
    _must("title", Text),
    _filled("description", Text),
    _filled("labels", JSONB),
    _must("schedule_kind", Text),
    _filled("schedule_expr", Text),
    _filled("timezone", Text),
    _may("schedule_start", TIMESTAMP()),
    _filled("schedule_options", JSONB),
    _must("payload", JSONB),
    _filled("status", Text),
    _may("status_reason", Text),
    _filled("status_changed_at", INSTANT),
    _filled("priority", SmallInteger),
    _may("dedupe_key", Text),
    _may("dedupe_window", Interval),
    _may("dedupe_scheduled", Text),
    _filled("max_retries", Integer),
    _filled("backoff_strategy", Text),
    _may("concurrency_key", Text),
    _may("concurrency", JSONB),
    _may("pause_after_failures", Integer),
    _may("condition_met", Boolean),
    _may("condition_at", INSTANT),
    _may("next_run", INSTANT),
    _may("tzdata_version", Text),
    _filled("version", Integer),
    _may("set_name", Text),
    _may("created_by", UUID()),
    _filled("created_at", INSTANT),
    _filled("updated_at", INSTANT),
    _may("schedule_error", Text),
)
task_version = Table(
    "task_version",
    metadata,
    _key("task_id", UUID()),
    _key("version", Integer, autoincrement=False),
    _must("definition", JSONB),
    _may("author", UUID()),
    _filled("created_at", INSTANT),
)
occurrence = Table(
    "occurrence",
    metadata,
    _key("task_id", UUID()),
    _key("scheduled_for", INSTANT),
    _may("run_id", UUID()),
    _must("disposition", Text),
    _may("last_for", INSTANT),
    _filled("count", BigInteger, nullable=True),
    _may("reason", Text),
    _filled("created_at", INSTANT),
)
due_work = Table(
    "due_work",
    metadata,
    _key("id", UUID(), server_default=FetchedValue()),
    _key("slot", SmallInteger, autoincrement=False),
    _must("task_id", UUID()),
    _must("task_version", Integer),
    _must("trigger", Text),
    _may("scheduled_for", INSTANT),
    _must("run_at", INSTANT),
    _may("expires_at", INSTANT),
    _filled("priority", SmallInteger),
    _filled("attempt", Integer),
    _may("locked_until", INSTANT),
    _may("locked_by", Text),
    _may("fence", BigInteger),
    _may("cancel_reason", Text),
    _may("params", JSONB),
    _may("event", JSONB),
    _may("state", JSONB),
    _may("parent_run_id", UUID()),
    _may("created_by", UUID()),
    _may("concurrency_key", Text),
    _may("concurrency_limit", Integer),
    _may("on_conflict", Text),
    _may("key_slot", Integer),
    _filled("waiting", Boolean),
    _filled("created_at", INSTANT),
    _filled("linked", Boolean),
)
rate_bucket = Table(
    "rate_bucket",
    metadata,
    _key("tool", Text),
    _filled("next_at", INSTANT),
    _filled("promised_at", INSTANT),
)
tool_slot = Table(
    "tool_slot",
    metadata,
    _key("tool", Text),
    _key("slot", Integer, autoincrement=False),
    _may("held_by", Text),
    _may("taken_at", INSTANT),
    _may("held_until", INSTANT),
)
tool_breaker = Table(
    "tool_breaker",
    metadata,
    _key("tool", Text),
    _filled("state", Text),
    _filled("failures", Integer),
    _filled("successes", Integer),
    _may("open_until", INSTANT),
    _may("probe", UUID()),
    _may("probe_until", INSTANT),
    _filled("changed_at", INSTANT),
)
wait = Table(
    "wait",
    metadata,
    _key("run_id", UUID()),
    _key("step", Text),
    _key("item", Integer, autoincrement=False, server_default=FetchedValue()),
    _must("kind", Text),
    _may("topic", Text),
    _may("filter", Text),
    _may("given", JSONB),
    _may("prompt", Text),
    _may("approvers", ARRAY(Text)),
    _may("child_run_id", UUID()),
    _filled("created_at", INSTANT),
    _may("deadline", INSTANT),
    _may("resolved_at", INSTANT),
    _may("resolved_by", Text),
    _may("resolution", JSONB),
    _may("taken_at", INSTANT),
)
concurrency_slot = Table(
    "concurrency_slot",
    metadata,
    _key("key", Text),
    _key("slot", Integer, autoincrement=False),
    _must("run_id", UUID()),
    _filled("taken_at", INSTANT),
)
dedupe_key = Table(
    "dedupe_key",
    metadata,
    _key("task_id", UUID()),
    _key("key", Text),
    _key("at", INSTANT),
    _must("run_id", UUID()),
    _may("held_until", INSTANT),
)
due_work_slot = Table(
    "due_work_slot",
    metadata,
    _key("slot", SmallInteger, autoincrement=False),
    _must("state", Text),
    _filled("changed_at", INSTANT),
)
task_run = Table(
    "task_run",
    metadata,
    _key("run_id", UUID()),
    _key("attempt", Integer, autoincrement=False),
    _must("task_id", UUID()),
    _must("task_version", Integer),
    _must("trigger", Text),
    _may("scheduled_for", INSTANT),
    _may("params", JSONB),
    _may("event", JSONB),
    _must("status", Text),
    _must("final", Boolean),
    _may("started_at", INSTANT),
    _key("finished_at", INSTANT),
    _filled("success", Boolean),
    _filled("duration_ms", Double, nullable=True),
    _may("error", JSONB),
    _may("output", JSONB),
    _may("worker", Text),
    _may("fence", BigInteger),
    _may("parent_run_id", UUID()),
)
step_run = Table(
    "step_run",
    metadata,
    _must("run_id", UUID()),
    _must("attempt", Integer),
    _must("position", Integer),
    _must("step", Text),
    _may("item", Integer),
    _must("tool", Text),
    _must("status", Text),
    _filled("tries", Integer),
    _may("started_at", INSTANT),
    _must("finished_at", INSTANT),
    _filled("duration_ms", Double, nullable=True),
    _may("input", JSONB),
    _may("output", JSONB),
    _may("error", JSONB),
    _may("verdict", JSONB),
)
checkpoint = Table(
    "checkpoint",
    metadata,
    _key("run_id", UUID()),
    _key("step", Text),
    _key("item", Integer, autoincrement=False, server_default=FetchedValue()),
    _must("attempt", Integer),
    _must("fence", BigInteger),
    _must("record", JSONB),
    _filled("created_at", INSTANT),
)
gate_key = Table(
    "gate_key",
    metadata,
    _key("id", SmallInteger, server_default=FetchedValue()),
    _must("key", LargeBinary),
    _filled("created_at", INSTANT),
)
allowance = Table(
    "allowance",
    metadata,
    _key("id", UUID(), server_default=FetchedValue()),
    _may("task_id", UUID()),
    _may("kind", Text),
    _may("digest", Text),
    _may("pattern", Text),
    _must("reason", Text),
    _must("author", Text),
    _filled("created_at", INSTANT),
    _may("expires_at", INSTANT),
    _may("revoked_at", INSTANT),
    _may("revoked_by", Text),
)
held_run = Table(
    "held_run",
    metadata,
    _key("run_id", UUID()),
    _key("attempt", Integer, autoincrement=False),
    _must("task_id", UUID()),
    _must("task_version", Integer),
    _must("held_at", INSTANT),
    _must("findings", JSONB),
    _must("priority", SmallInteger),
    _may("concurrency_key", Text),
    _may("concurrency_limit", Integer),
    _may("created_by", UUID()),
    _may("records", JSONB),
    _may("state", JSONB),
    _may("decision", Text),
    _may("decided_at", INSTANT),
    _may("decided_by", Text),
    _may("reason", Text),
    _may("released", ARRAY(Text)),
)
event = Table(
    "event",
    metadata,
    _key("id", UUID(), server_default=FetchedValue()),
    _must("source", Text),
    _must("external_id", Text),
    _must("topic", Text),
    _filled("payload", JSONB),
    _may("agent_id", UUID()),
    _filled("accepted_at", INSTANT),
)
worker = Table(
    "worker",
    metadata,
    _key("id", Text),
    _must("host", Text),
    _must("pid", Integer),
    _must("version", Text),
    _must("slots", Integer),
    _filled("busy", Integer),
    _filled("labels", JSONB),
    _filled("draining", Boolean),
    _filled("started_at", INSTANT),
    _filled("last_seen", INSTANT),
)
scheduler = Table(
    "scheduler",
    metadata,
    _key("id", Text),
    _must("host", Text),
    _must("pid", Integer),
    _must("version", Text),
    _must("tzdata_version", Text),
    _filled("started_at", INSTANT),
    _filled("last_tick", INSTANT),
    _filled("late_after", Interval),
)
refusal = Table(
    "refusal",
    metadata,
    _key("id", UUID(), server_default=FetchedValue()),
    _must("surface", Text),
    _may("task_id", UUID()),
    _may("agent_id", UUID()),
    _must("verdict", JSONB),
    _filled("at", INSTANT),
)
audit_log = Table(
    "audit_log",
    metadata,
    _key("id", BigInteger, autoincrement=False, server_default=FetchedValue()),
    _filled("at", INSTANT),
    _must("actor", Text),
    _must("action", Text),
    _must("subject", Text),
    _may("request_id", Text),
    _filled("details", JSONB),
)
idempotency_key = Table(
    "idempotency_key",
    metadata,
    _key("agent_id", UUID()),
    _key("key", Text),
    _must("request", LargeBinary),
    _may("status", Integer),
    _may("headers", JSONB),
    _may("body", JSONB),
    _filled("created_at", INSTANT),
)
