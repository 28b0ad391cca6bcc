"""Rows as the API shows them: one function per noun, the seeds' members beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.db import Row
from engine.schedule import describe
from engine.store import ledger
from engine.store.runs import accepted_at

SUBMITTED = {
    **dict.fromkeys(("scheduled", "queued"), "pending"),
    **dict.fromkeys(("running", "waiting"), "processing"),
    "succeeded": "completed",
    **dict.fromkeys(("failed", "blocked", "timed_out", "dead", "missed", "skipped"), "failed"),
    "canceled": "cancelled",
}
"""Seed 004's words for what a run has come to."""


def task(row: Row) -> dict[str, Any]:
    """A task without its definition and its runs: an element of a list."""
    return {
        "id": row["id"],
        "task_id": row["id"],
        "name": row["name"],
        "title": row["title"],
        "goal": row["title"],
        "description": row["description"],
        "labels": row["labels"],
        "status": row["status"],
        "state": row["status"],
        "status_reason": row["status_reason"],
        "schedule": describe(ledger.schedule_from(row)),
        "schedule_kind": row["schedule_kind"],
        "schedule_expr": row["schedule_expr"],
        "timezone": row["timezone"],
        "next_run": row["next_run"],
        "schedule_error": row["schedule_error"],
        "condition_met": row["condition_met"],
        "condition_at": row["condition_at"],
        "payload": row["payload"],
        "priority": row["priority"],
        "max_retries": row["max_retries"],
        "backoff_strategy": row["backoff_strategy"],
        "dedupe_key": row["dedupe_key"],
        "dedupe_window_seconds": row["dedupe_window"],
        "pause_after_failures": row["pause_after_failures"],
        "concurrency_key": (row["concurrency"] or {}).get("key"),
        "version": row["version"],
        "set": row["set_name"],
        "created_by": row["created_by"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


def task_in_full(row: Row, definition: Mapping[str, Any], latest: Row | None) -> dict[str, Any]:
    """One task: both seeds' members (003 and 004), its definition, and what its latest run came to."""
    last = latest or {}
    duration = last.get("duration_ms")
    return task(row) | {
        "definition": definition,
        "latest_run": run(latest) if latest else None,
        "result": last.get("output"),
        "error": (last.get("error") or {}).get("message"),
        "processing_time_ms": None if duration is None else round(duration),
    }


def submission(row: Row) -> dict[str, Any]:
    """A run of what was submitted, as seed 004 shows a task."""
    params, error = row["params"] or {}, row["error"] or {}
    duration = row["duration_ms"]
    created = accepted_at(row["run_id"])
    return {
        **dict.fromkeys(("id", "task_id", "run_id"), row["run_id"]),
        "status": SUBMITTED[row["status"]],
        "state": row["status"],
        "goal": str(params.get("goal", "")),  # of a run that stands for a submission, it may be anything
        "result": row["output"],
        "error": error.get("message"),
        "task": row["task"],
        "priority": params.get("priority"),
        "metadata": params.get("metadata"),
        "created_at": created,
        "updated_at": row["finished_at"] or row["started_at"] or created,
        "started_at": row["started_at"],
        "finished_at": row["finished_at"],
        "processing_time_ms": None if duration is None else round(duration),
    }


def version(row: Row) -> dict[str, Any]:
    """One version of a definition."""
    return {name: row[name] for name in ("version", "definition", "author", "created_at")}


def run(row: Row) -> dict[str, Any]:
    """A run as `duework.runs` has it, by `id` and `run_id`."""
    return {"id": row["run_id"], **row}


def run_in_full(row: Row) -> dict[str, Any]:
    """A run with its attempts and steps, what it waits for, and what the gate held it for."""
    attempts = [{k: v for k, v in each.items() if k not in _OF_THE_RUN} for each in row["attempts"]]
    steps = [{k: v for k, v in each.items() if k != "run_id"} for each in row["steps"]]
    waits, blocks = [wait(each) for each in row["waits"]], [_block(each) for each in row["quarantine"]]
    return run(row) | {"attempts": attempts, "steps": steps, "waits": waits, "quarantine": blocks}


def _block(row: Row) -> dict[str, Any]:
    """An attempt that the gate blocked, as a part of its run."""
    return {
        name: value
        for name, value in row.items()
        if name not in ("run_id", "task_id", "task", "task_version")
    }


def wait(row: Row) -> dict[str, Any]:
    """What a step of a run waits for, in the words of `duework.waits`."""
    names = ("step", "kind", "topic", "filter", "prompt", "approvers", "child_run_id")
    times = {"since": row["created_at"], "until": row["deadline"]}
    return {"item": None if row["item"] < 0 else row["item"]} | {name: row[name] for name in names} | times


_OF_THE_RUN = frozenset({"run_id", "task_id", "params", "event", "parent_run_id", "trigger", "scheduled_for"})


def queued(row: Row, task_row: Row) -> dict[str, Any]:
    """A run that was just queued, with the members that any run has."""
    return {
        "id": row["run_id"],
        "run_id": row["run_id"],
        "task_id": row["task_id"],
        "task": task_row["name"],
        "task_version": row["task_version"],
        "trigger": row["trigger"],
        "status": "queued",
        "success": None,
        "attempt": 0,
        "scheduled_for": row["scheduled_for"],
        "started_at": None,
        "finished_at": None,
        "duration_ms": None,
        "params": row["params"],
        "output": None,
        "error": None,
        "worker": None,
        "parent_run_id": None,
        "deduplicated": row["deduplicated"],
    }


def agent(row: Row) -> dict[str, Any]:
    """An agent; of its tokens nothing is shown."""
    names = ("id", "name", "scopes", "webhook_url", "active", "created_at", "updated_at")
    return {name: row[name] for name in names}


def event(row: Row) -> dict[str, Any]:
    """An accepted event."""
    return {
        "id": row["id"],
        "event_id": row["id"],
        "topic": row["topic"],
        "source": row["source"],
        "external_id": row["external_id"],
        "payload": row["payload"],
        "source_agent_id": row["agent_id"],
        "accepted_at": row["accepted_at"],
    }


def triggered(answer: Row) -> dict[str, Any]:
    """What publishing an event led to; the seeds read `triggered_tasks`."""
    return {
        "event_id": answer["event_id"],
        "triggered_tasks": answer["triggered"],
        "resumed_runs": answer["resumed"],
        "duplicate": answer["duplicate"],
    }
