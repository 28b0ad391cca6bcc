"""What callers are answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.schemas.words import (
    ANY,
    COUNT,
    FLAG,
    ID,
    MAY_ID,
    MAY_TIME,
    TEXT,
    TIME,
    Schema,
    listing,
    may,
    obj,
    page,
    ref,
)

_TASK: Schema = {
    "id": ID, "task_id": ID, "name": TEXT, "title": TEXT, "goal": TEXT, "description": TEXT,
    "labels": {"type": "object"}, "status": {"enum": ["active", "paused", "canceled"]},
    "state": {"enum": ["active", "paused", "canceled"]}, "status_reason": may("string"), "schedule": TEXT,
    "schedule_kind": TEXT, "schedule_expr": TEXT, "timezone": TEXT, "next_run": MAY_TIME,
    "condition_met": may("boolean") | {"description": "What a condition's last probe came to; null before the first."},
    "condition_at": MAY_TIME | {"description": "The instant of that probe."},
    "payload": {"type": "object"}, "priority": {"type": "integer"}, "max_retries": COUNT,
    "backoff_strategy": TEXT, "dedupe_key": may("string"), "dedupe_window_seconds": may("number"),
    "pause_after_failures": may("integer"),
    "concurrency_key": may("string"), "version": {"type": "integer"}, "set": may("string"),
    "created_by": MAY_ID, "created_at": TIME, "updated_at": TIME,
    "schedule_error": may("string") | {"description": "Why no tick could plan it: set aside until it is changed."},
}  # fmt: skip
_RUN: Schema = {
    "id": ID, "run_id": ID, "task_id": ID, "task": may("string"), "task_version": may("integer"),
    "trigger": TEXT, "status": TEXT, "success": may("boolean"), "attempt": COUNT,
    "scheduled_for": MAY_TIME, "started_at": MAY_TIME, "finished_at": MAY_TIME,
    "duration_ms": may("number"), "params": may("object"), "output": ANY, "error": may("object"),
    "worker": may("string"), "parent_run_id": MAY_ID,
}  # fmt: skip
_ATTEMPT: Schema = {
    "attempt": COUNT, "task_version": {"type": "integer"}, "status": TEXT, "final": FLAG, "success": FLAG,
    "started_at": MAY_TIME, "finished_at": TIME, "duration_ms": may("number"), "error": may("object"),
    "output": ANY, "worker": may("string"), "fence": may("integer"),
}  # fmt: skip
_STEP: Schema = {
    "attempt": COUNT, "position": COUNT, "step": TEXT, "item": may("integer"), "tool": TEXT,
    "status": TEXT, "tries": COUNT, "started_at": MAY_TIME, "finished_at": TIME,
    "duration_ms": may("number"), "input": ANY, "output": ANY, "error": may("object"),
    "verdict": may("object"),
}  # fmt: skip
_WAIT: Schema = {
    "step": TEXT, "item": may("integer"), "kind": {"enum": ["sleep", "event", "approval", "run"]},
    "topic": may("string"), "filter": may("string"), "prompt": may("string"),
    "approvers": {"type": ["array", "null"], "items": TEXT}, "child_run_id": MAY_ID, "since": TIME,
    "until": MAY_TIME | {"description": "When it ends without an answer; null: never."},
}  # fmt: skip
_BLOCK: Schema = {
    "attempt": COUNT, "status": {"enum": ["held", "released", "refused"]}, "held_at": TIME,
    "findings": {
        "type": "array",
        "items": obj(
            "step", "item", "direction", "category", "rule", "pointer", "digest",
            step=may("string"), item=may("integer"), direction={"enum": ["input", "output"]},
            category={"enum": ["pii", "injection"]}, kind=TEXT, family=TEXT, rule=TEXT, action=TEXT,
            pointer=TEXT, start=COUNT, end=COUNT, masked=TEXT, confidence={"type": "number"}, severity=TEXT,
            digest=TEXT | {"description": "Names the finding in a release; says nothing of the value."},
        ),
    },
    "decided_at": MAY_TIME, "decided_by": may("string"), "reason": may("string"),
    "released": {"type": ["array", "null"], "items": TEXT},
}  # fmt: skip
_TRIGGERED: Schema = {
    "task_id": ID, "task": TEXT, "run_id": ID,
    "deduplicated": FLAG | {"description": "By the task's dedupe key an earlier run stands: that is run_id."},
}  # fmt: skip
_PROBLEM: Schema = {
    "type": {"type": "string", "format": "uri-reference"}, "title": TEXT, "status": {"type": "integer"},
    "detail": TEXT, "instance": TEXT, "code": TEXT, "request_id": TEXT,
    "errors": {"type": "array", "items": ref("ProblemPart")}, "error": TEXT, "message": TEXT,
    "timestamp": TIME, "details": {"type": "object"},
}  # fmt: skip


def _all(members: Mapping[str, Any], **more: Any) -> Schema:
    properties = {**members, **more}
    return obj(*properties, **properties)


ANSWERS: dict[str, Schema] = {
    "Task": obj(
        *_TASK,
        **_TASK,
        definition={"type": "object", "description": "The normalised definition, format v1."},
        latest_run={"anyOf": [ref("Run"), {"type": "null"}]},
        result={"description": "The output of the latest run."},
        error=may("string", description="Why the latest run failed."),
        processing_time_ms=may("integer"),
        warnings={"type": "array", "items": ref("ProblemPart"), "description": "Of the definition, as it was stored."},
    ),
    "TaskItem": _all(_TASK),
    "TaskPage": page("TaskItem"),
    "Plan": _all(
        {"name": TEXT, "result": {"enum": ["created", "changed", "unchanged", "removed"]}},
        warnings={"type": "array", "items": ref("ProblemPart")},
        next={"type": "array", "items": TIME},
        schedule=may("string", description="The schedule in words; null for a removed task."),
        instants={"type": "array", "items": ref("Instant")},
        left_out={"type": "array", "items": ref("LeftOut")},
        clock_changes={"type": "array", "items": ref("ClockDay")},
    ),
    "Applied": _all(
        {"set": may("string"), "dry_run": FLAG, "counts": {"type": "object"}},
        results={"type": "array", "items": ref("Plan")},
    ),
    "Version": _all(
        {"version": {"type": "integer"}, "definition": {"type": "object"}, "author": MAY_ID, "created_at": TIME}
    ),
    "Versions": listing("Version"),
    "Run": obj("id", "run_id", "task_id", "status", **_RUN),
    "RunPage": page("Run"),
    "RunInFull": _all(
        _RUN,
        attempts={"type": "array", "items": _all(_ATTEMPT)},
        steps={"type": "array", "items": _all(_STEP)},
        waits={"type": "array", "items": _all(_WAIT), "description": "What it waits for at this moment."},
        quarantine={
            "type": "array", "items": _all(_BLOCK), "description": "What the gate held it for, and what was decided.",
        },
    ),
    "HeldRun": _all({"run_id": ID, "task_id": ID, "task": may("string"), "task_version": COUNT}, **_BLOCK),
    "HeldRunPage": page("HeldRun"),
    "Accepted": obj(
        *_RUN, "message", "details",
        **_RUN | {"success": FLAG | {"description": "Accepted, or once it has ended, whether it succeeded."}},
        message=TEXT,
        details={"type": "object"},
        deduplicated=FLAG | {"description": "Nothing was queued: by the task's dedupe key this earlier run stands."},
    ),
    "Stats": obj(
        "since", "total_runs", "total", "succeeded", "failed",
        since=TIME, task_id=ID, task=TEXT, total_runs=COUNT, total=COUNT, succeeded=COUNT, failed=COUNT,
        success_rate=may("number"), average_ms=may("number"), p95_ms=may("number"), longest_ms=may("number"),
    ),
    "Event": _all(
        {"id": ID, "event_id": ID, "topic": TEXT, "source": TEXT, "external_id": TEXT},
        payload={"type": "object"}, source_agent_id=MAY_ID, accepted_at=TIME,
    ),
    "EventPage": page("Event"),
    "EventAccepted": _all(
        {"event_id": ID, "duplicate": FLAG},
        triggered_tasks={"type": "array", "items": _all(_TRIGGERED)},
        resumed_runs={"type": "array", "items": ID, "description": "The runs of which a step waited for it."},
    ),
    "Topic": _all({"topic": TEXT, "count": COUNT, "last_at": TIME}),
    "Topics": listing("Topic"),
    "Agent": _all(
        {"id": ID, "name": TEXT, "scopes": {"type": "array", "items": TEXT}, "webhook_url": may("string")},
        active=FLAG, created_at=TIME, updated_at=TIME,
    ),
    "Agents": listing("Agent"),
    "Credential": _all(
        {"agent_id": ID, "token": TEXT, "token_type": TEXT, "label": TEXT, "expires_at": MAY_TIME}
    ),
    "Revoked": _all({"agent_id": ID, "revoked": COUNT}),
    "Worker": obj("id", "host", "pid", "slots", "busy", "alive", id=TEXT, host=TEXT, alive=FLAG),
    "Workers": listing("Worker", schedulers={"type": "array", "items": {"type": "object"}}),
    "Queue": obj(
        "ready", "leased", "items", ready=COUNT, leased=COUNT, workers=COUNT,
        oldest_seconds=may("number"), tick_age_seconds=may("number"),
        items={"type": "array", "items": {"type": "object"}},
    ),
    "AuditLine": _all(
        {"id": {"type": "integer"}, "at": TIME, "actor": TEXT, "action": TEXT, "subject": TEXT},
        request_id=may("string"), details={"type": "object"},
    ),
    "AuditPage": page("AuditLine"),
    "Verdict": obj(
        "at", "direction", "action", "findings",
        at=TIME, run_id=MAY_ID, attempt=may("integer"), step=may("string"), item=may("integer"),
        tool=may("string"), direction={"enum": ["input", "output", "door"]},
        action={"enum": ["flag", "redact", "block"]}, findings={"type": "array", "items": {"type": "object"}},
    ),
    "VerdictPage": page("Verdict"),
    "ReflexAnswer": _all(
        {"request_id": TEXT, "status": {"enum": ["Success", "Blocked"]}, "pii_detected": FLAG},
        characters=COUNT | {"description": "Code points of the text: what positions count."},
        pii_matches={"type": "array", "items": _all(
            {"pii_type": TEXT, "value": TEXT, "rule": TEXT}, position=COUNT, end=COUNT,
            confidence={"type": "number", "minimum": 0, "maximum": 1},
        )},
        injection_detected=FLAG,
        injection_matches={"type": "array", "items": _all(
            {"injection_type": TEXT, "severity": {"enum": ["Low", "Medium", "High", "Critical"]}, "rule": TEXT},
            position=COUNT, end=COUNT,
        )},
        cache_hit=FLAG, processing_time_ms={"type": "number"},
    ),
    "Health": _all({"status": {"const": "healthy"}, "timestamp": TIME, "version": TEXT}),
    "Ready": _all(
        {"ready": FLAG, "timestamp": TIME, "version": TEXT},
        checks={"type": "object", "additionalProperties": FLAG},
        gate=_all({
            "source": {"enum": ["in_process", "remote"]}, "breaker": {"enum": ["closed", "half_open", "open"]},
        }),
    ),
    "Service": _all(dict.fromkeys(("service", "version", "docs", "health", "ready", "metrics", "openapi"), TEXT)),
    "Text": {"type": "string"},
    "Json": {"type": "object"},
    "ProblemPart": obj(
        "code", "detail", code=TEXT, detail=TEXT, pointer=TEXT, line={"type": "integer"},
        column={"type": "integer"},
    ),
    "Problem": _all(_PROBLEM) | {"description": "RFC 9457, with the seeds' error, message, timestamp, details."},
}  # fmt: skip
