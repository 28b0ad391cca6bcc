"""The JSON Schemas of bodies and answers by name: what OpenAPI publishes is what checks the bodies.

References are written `#/components/schemas/Name`. `bundle` makes one of them stand alone, with everything it
refers to, so that the same texts can be compiled into contracts.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from api import schedule_schemas
from engine.pipeline.shape import schema as published

Schema = dict[str, Any]
HERE = "#/components/schemas/"


def ref(name: str) -> Schema:
    """A reference to a named schema."""
    return {"$ref": HERE + name}


def bundle(name: str) -> Schema:
    """The schema `name` with all that it refers to, resolvable by itself."""
    known = components()
    needed: dict[str, Schema] = {}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each not in needed:
            needed[each] = known[each]
            waiting += references(known[each])
    return {"components": {"schemas": needed}, **ref(name)}


@cache
def components() -> Mapping[str, Schema]:
    """Every schema by name; treat them as read-only."""
    documents = {"Pipeline": "pipeline-v1", "OrdinautTask": "seed-task"}
    parts = (_BODIES, _ANSWERS, schedule_schemas.BODIES, schedule_schemas.ANSWERS)
    return {name: _embedded(name, file) for name, file in documents.items()} | _joined(parts)


def _joined(parts: Iterable[Mapping[str, Schema]]) -> dict[str, Schema]:
    return {name: schema for part in parts for name, schema in part.items()}


def references(node: Any) -> Iterator[str]:
    """The names of the schemas that a schema refers to."""
    for target in _targets(node):
        yield target.removeprefix(HERE).partition("/")[0]


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for item in node:
            yield from _targets(item)


def _embedded(name: str, file: str) -> Schema:
    """A published schema as a component: its local references lead to where it stands now."""
    text = json.dumps(published(file)).replace('"#/$defs/', f'"{HERE}{name}/$defs/')
    found: Schema = json.loads(text)
    found.pop("$schema", None)
    return found


def _object(*required: str, closed: bool = False, **properties: Any) -> Schema:
    made: Schema = {"type": "object", "properties": copy.deepcopy(properties)}
    if required:
        made["required"] = list(required)
    return made | ({"additionalProperties": False} if closed else {})


def _page(name: str) -> Schema:
    items = {"type": "array", "items": ref(name)}
    return _object(
        "items", "next_cursor", "has_more", items=items, next_cursor=_may("string"), has_more=_FLAG
    )


def _list(name: str, **more: Any) -> Schema:
    return _object("items", items={"type": "array", "items": ref(name)}, **more)


def _may(kind: str, **more: Any) -> Schema:
    return {"type": [kind, "null"], **more}


_ID = {"type": "string", "format": "uuid"}
_MAY_ID = {"type": ["string", "null"], "format": "uuid"}
_TIME = {"type": "string", "format": "date-time"}
_MAY_TIME = {"type": ["string", "null"], "format": "date-time"}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_COUNT = {"type": "integer", "minimum": 0}
_ANY: Schema = {}
_REASON = {
    "type": "string",
    "maxLength": 1000,
    "description": "Kept with the change; personal data is masked.",
}
_TOPIC = {
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$",
    "maxLength": 200,
    "errorMessage": "a topic is words with dots between them, like 'email.received'",
}
_AGENT_NAME = {
    "type": "string",
    "pattern": "^[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?$",
    "errorMessage": "a name has 1 to 100 lower-case letters, digits and ._- between them",
}
_SCOPES = {
    "type": "array",
    "items": {"type": "string", "pattern": "^[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)?[*]?$"},
    "maxItems": 200,
    "uniqueItems": True,
}
_WEBHOOK = {"type": ["string", "null"], "format": "uri", "pattern": "^https?://", "maxLength": 2000}

_BODIES: dict[str, Schema] = {
    "Definition": {
        "description": "A task: format v1, or the seed format without `apiVersion`.",
        "anyOf": [ref("Pipeline"), ref("OrdinautTask")],
    },
    "Definitions": {
        "description": "One definition, a list of them, or several YAML documents.",
        "anyOf": [ref("Definition"), {"type": "array", "items": ref("Definition"), "minItems": 1}],
    },
    "DefinitionPatch": {
        "type": "object",
        "description": "A merge patch (RFC 7396) on the v1 definition, or a whole definition in its place.",
        "examples": [{"priority": 2, "labels": {"tier": "1"}}],
    },
    "RunNow": _object(
        closed=True,
        params={
            "type": "object",
            "description": "Over the definition's own; the result must fit params_schema.",
        },
    )
    | {"examples": [{"params": {"city": "Chisinau"}}]},
    "Reason": _object(closed=True, reason=_REASON),
    "Decision": _object(
        "decision",
        "reason",
        closed=True,
        decision={"enum": ["approve", "refuse"]},
        reason={
            "type": "string",
            "minLength": 1,
            "maxLength": 1000,
            "description": "Why; it passes the gate.",
        },
        step={"type": "string", "minLength": 1, "description": "Needed where more than one waits."},
        item={"type": "integer", "minimum": 0, "description": "Which item of that step's foreach."},
    )
    | {"examples": [{"decision": "approve", "reason": "checked with the customer"}]},
    "Snooze": _object(
        closed=True,
        delay_seconds={"type": "integer", "minimum": 1, "maximum": 315_360_000},
        until=_TIME,
        reason=_REASON,
    )
    | {
        "oneOf": [{"required": ["delay_seconds"]}, {"required": ["until"]}],
        "errorMessage": "give exactly one of delay_seconds and until",
        "examples": [{"delay_seconds": 3600, "reason": "maintenance"}],
    },
    "EventNew": {
        "description": "The seed's shape, or a CloudEvent (1.0, structured mode).",
        "if": {"required": ["specversion"]},
        "then": ref("CloudEvent"),
        "else": ref("SeedEvent"),
        "type": "object",
        "examples": [{"topic": "email.received", "payload": {"priority": "high"}}],
    },
    "SeedEvent": _object(
        "topic",
        closed=True,
        topic=_TOPIC,
        payload={"type": "object"},
        source_agent_id=_ID,
        id={"type": "string", "minLength": 1, "maxLength": 255, "description": "The same id is one event."},
    ),
    "CloudEvent": _object(
        "specversion",
        "id",
        "source",
        "type",
        specversion={"const": "1.0"},
        id={"type": "string", "minLength": 1, "maxLength": 255},
        source={"type": "string", "minLength": 1, "maxLength": 500},
        type=_TOPIC,
        subject=_TEXT,
        time=_TIME,
        datacontenttype=_TEXT,
        data=_ANY,
    ),
    "AgentNew": _object(
        "name",
        closed=True,
        name=_AGENT_NAME,
        scopes=_SCOPES | {"default": []},
        webhook_url=_WEBHOOK,
    )
    | {"examples": [{"name": "reporter", "scopes": ["task:read", "run:read"]}]},
    "AgentChange": _object(closed=True, name=_AGENT_NAME, scopes=_SCOPES, webhook_url=_WEBHOOK, active=_FLAG),
    "CredentialNew": _object(closed=True, label={"type": "string", "maxLength": 100}, expires_at=_TIME),
    "ReflexAsked": _object(
        "text",
        closed=True,
        text={"type": "string", "maxLength": 1_000_000},
        check_pii=_FLAG | {"default": True},
        check_injection=_FLAG | {"default": True},
        user_id=_may("string"),
        context=_may("object"),
    )
    | {"examples": [{"text": "What is the weather in Chisinau?"}]},
}

_TASK: Schema = {
    "id": _ID, "task_id": _ID, "name": _TEXT, "title": _TEXT, "goal": _TEXT, "description": _TEXT,
    "labels": {"type": "object"}, "status": {"enum": ["active", "paused", "canceled"]},
    "state": {"enum": ["active", "paused", "canceled"]}, "status_reason": _may("string"), "schedule": _TEXT,
    "schedule_kind": _TEXT, "schedule_expr": _TEXT, "timezone": _TEXT, "next_run": _MAY_TIME,
    "condition_met": _may("boolean") | {"description": "What a condition's last probe came to; null before the first."},
    "condition_at": _MAY_TIME | {"description": "The instant of that probe."},
    "payload": {"type": "object"}, "priority": {"type": "integer"}, "max_retries": _COUNT,
    "backoff_strategy": _TEXT, "dedupe_key": _may("string"), "dedupe_window_seconds": _may("number"),
    "pause_after_failures": _may("integer"),
    "concurrency_key": _may("string"), "version": {"type": "integer"}, "set": _may("string"),
    "created_by": _MAY_ID, "created_at": _TIME, "updated_at": _TIME,
    "schedule_error": _may("string") | {"description": "Why no tick could plan it; it is set aside until it is changed."},
}  # fmt: skip
_RUN: Schema = {
    "id": _ID, "run_id": _ID, "task_id": _ID, "task": _may("string"), "task_version": _may("integer"),
    "trigger": _TEXT, "status": _TEXT, "success": _may("boolean"), "attempt": _COUNT,
    "scheduled_for": _MAY_TIME, "started_at": _MAY_TIME, "finished_at": _MAY_TIME,
    "duration_ms": _may("number"), "params": _may("object"), "output": _ANY, "error": _may("object"),
    "worker": _may("string"), "parent_run_id": _MAY_ID,
}  # fmt: skip
_ATTEMPT: Schema = {
    "attempt": _COUNT, "task_version": {"type": "integer"}, "status": _TEXT, "final": _FLAG, "success": _FLAG,
    "started_at": _MAY_TIME, "finished_at": _TIME, "duration_ms": _may("number"), "error": _may("object"),
    "output": _ANY, "worker": _may("string"), "fence": _may("integer"),
}  # fmt: skip
_STEP: Schema = {
    "attempt": _COUNT, "position": _COUNT, "step": _TEXT, "item": _may("integer"), "tool": _TEXT,
    "status": _TEXT, "tries": _COUNT, "started_at": _MAY_TIME, "finished_at": _TIME,
    "duration_ms": _may("number"), "input": _ANY, "output": _ANY, "error": _may("object"),
    "verdict": _may("object"),
}  # fmt: skip
_WAIT: Schema = {
    "step": _TEXT, "item": _may("integer"), "kind": {"enum": ["sleep", "event", "approval", "run"]},
    "topic": _may("string"), "filter": _may("string"), "prompt": _may("string"),
    "approvers": {"type": ["array", "null"], "items": _TEXT}, "child_run_id": _MAY_ID, "since": _TIME,
    "until": _MAY_TIME | {"description": "When it ends without an answer; null: never."},
}  # fmt: skip
_TRIGGERED: Schema = {
    "task_id": _ID, "task": _TEXT, "run_id": _ID,
    "deduplicated": _FLAG | {"description": "By the task's dedupe key an earlier run stands: that is run_id."},
}  # fmt: skip
_PROBLEM: Schema = {
    "type": {"type": "string", "format": "uri-reference"}, "title": _TEXT, "status": {"type": "integer"},
    "detail": _TEXT, "instance": _TEXT, "code": _TEXT, "request_id": _TEXT,
    "errors": {"type": "array", "items": ref("ProblemPart")}, "error": _TEXT, "message": _TEXT,
    "timestamp": _TIME, "details": {"type": "object"},
}  # fmt: skip


def _all(members: Mapping[str, Any], **more: Any) -> Schema:
    properties = {**members, **more}
    return _object(*properties, **properties)


_ANSWERS: dict[str, Schema] = {
    "Task": _object(
        *_TASK,
        **_TASK,
        definition={"type": "object", "description": "The normalised definition, format v1."},
        latest_run={"anyOf": [ref("Run"), {"type": "null"}]},
        result={"description": "The output of the latest run."},
        error=_may("string", description="Why the latest run failed."),
        processing_time_ms=_may("integer"),
        warnings={"type": "array", "items": ref("ProblemPart"), "description": "Of the definition, as it was stored."},
    ),
    "TaskItem": _all(_TASK),
    "TaskPage": _page("TaskItem"),
    "Plan": _all(
        {"name": _TEXT, "result": {"enum": ["created", "changed", "unchanged", "removed"]}},
        warnings={"type": "array", "items": ref("ProblemPart")},
        next={"type": "array", "items": _TIME},
        schedule=_may("string", description="The schedule in words; null for a removed task."),
        instants={"type": "array", "items": ref("Instant")},
        left_out={"type": "array", "items": ref("LeftOut")},
        clock_changes={"type": "array", "items": ref("ClockDay")},
    ),
    "Applied": _all(
        {"set": _may("string"), "dry_run": _FLAG, "counts": {"type": "object"}},
        results={"type": "array", "items": ref("Plan")},
    ),
    "Version": _all(
        {"version": {"type": "integer"}, "definition": {"type": "object"}, "author": _MAY_ID, "created_at": _TIME}
    ),
    "Versions": _list("Version"),
    "Run": _object("id", "run_id", "task_id", "status", **_RUN),
    "RunPage": _page("Run"),
    "RunInFull": _all(
        _RUN,
        attempts={"type": "array", "items": _all(_ATTEMPT)},
        steps={"type": "array", "items": _all(_STEP)},
        waits={"type": "array", "items": _all(_WAIT), "description": "What it waits for at this moment."},
    ),
    "Accepted": _object(
        *_RUN, "message", "details",
        **_RUN | {"success": _FLAG | {"description": "Accepted, or once it has ended, whether it succeeded."}},
        message=_TEXT,
        details={"type": "object"},
        deduplicated=_FLAG | {"description": "Nothing was queued: by the task's dedupe key this earlier run stands."},
    ),
    "Stats": _object(
        "since", "total_runs", "total", "succeeded", "failed",
        since=_TIME, task_id=_ID, task=_TEXT, total_runs=_COUNT, total=_COUNT, succeeded=_COUNT, failed=_COUNT,
        success_rate=_may("number"), average_ms=_may("number"), p95_ms=_may("number"), longest_ms=_may("number"),
    ),
    "Event": _all(
        {"id": _ID, "event_id": _ID, "topic": _TEXT, "source": _TEXT, "external_id": _TEXT},
        payload={"type": "object"}, source_agent_id=_MAY_ID, accepted_at=_TIME,
    ),
    "EventPage": _page("Event"),
    "EventAccepted": _all(
        {"event_id": _ID, "duplicate": _FLAG},
        triggered_tasks={"type": "array", "items": _all(_TRIGGERED)},
        resumed_runs={"type": "array", "items": _ID, "description": "The runs of which a step waited for it."},
    ),
    "Topic": _all({"topic": _TEXT, "count": _COUNT, "last_at": _TIME}),
    "Topics": _list("Topic"),
    "Agent": _all(
        {"id": _ID, "name": _TEXT, "scopes": {"type": "array", "items": _TEXT}, "webhook_url": _may("string")},
        active=_FLAG, created_at=_TIME, updated_at=_TIME,
    ),
    "Agents": _list("Agent"),
    "Credential": _all(
        {"agent_id": _ID, "token": _TEXT, "token_type": _TEXT, "label": _TEXT, "expires_at": _MAY_TIME}
    ),
    "Revoked": _all({"agent_id": _ID, "revoked": _COUNT}),
    "Tool": _object(
        "address", "transport", "input_schema", "output_schema", "scopes", "idempotent",
        address=_TEXT, transport=_TEXT, title=_TEXT, description=_TEXT, input_schema=_ANY, output_schema=_ANY,
        timeout_seconds={"type": "number"}, scopes={"type": "array", "items": _TEXT}, idempotent=_FLAG,
        version=_may("string"), aliases={"type": "array", "items": _TEXT}, secrets={"type": "array", "items": _TEXT},
        retry=_may("object"), rate=_may("object"), concurrency=_may("integer"), breaker=_may("object"),
        breaker_state={"enum": ["closed", "open", "half_open", None]}, source=_TEXT,
    ),
    "ToolTest": _object(closed=True, input={"type": "object", "default": {}}),
    "ToolTrial": _object(
        "tool", "status", "output", "error", "verdict", "duration_ms",
        tool=_TEXT, status={"enum": ["succeeded", "failed", "blocked", "timed_out", "parked"]}, output=_ANY,
        error=_may("object"), verdict=_may("object"), duration_ms={"type": "number"},
    ),
    "Tools": _list("Tool"),
    "Worker": _object("id", "host", "pid", "slots", "busy", "alive", id=_TEXT, host=_TEXT, alive=_FLAG),
    "Workers": _list("Worker", schedulers={"type": "array", "items": {"type": "object"}}),
    "Queue": _object(
        "ready", "leased", "items", ready=_COUNT, leased=_COUNT, workers=_COUNT,
        oldest_seconds=_may("number"), tick_age_seconds=_may("number"),
        items={"type": "array", "items": {"type": "object"}},
    ),
    "AuditLine": _all(
        {"id": {"type": "integer"}, "at": _TIME, "actor": _TEXT, "action": _TEXT, "subject": _TEXT},
        request_id=_may("string"), details={"type": "object"},
    ),
    "AuditPage": _page("AuditLine"),
    "Verdict": _object(
        "at", "direction", "action", "findings",
        at=_TIME, run_id=_MAY_ID, attempt=_may("integer"), step=_may("string"), item=_may("integer"),
        tool=_may("string"), direction={"enum": ["input", "output", "door"]},
        action={"enum": ["flag", "redact", "block"]}, findings={"type": "array", "items": {"type": "object"}},
    ),
    "VerdictPage": _page("Verdict"),
    "ReflexAnswer": _all(
        {"request_id": _TEXT, "status": {"enum": ["Success", "Blocked"]}, "pii_detected": _FLAG},
        pii_matches={"type": "array", "items": {"type": "object"}}, injection_detected=_FLAG,
        injection_matches={"type": "array", "items": {"type": "object"}},
        cache_hit=_FLAG, processing_time_ms={"type": "number"},
    ),
    "Health": _all({"status": {"const": "healthy"}, "timestamp": _TIME, "version": _TEXT}),
    "Ready": _all(
        {"ready": _FLAG, "timestamp": _TIME, "version": _TEXT},
        checks={"type": "object", "additionalProperties": _FLAG},
    ),
    "Service": _all(dict.fromkeys(("service", "version", "docs", "health", "ready", "metrics", "openapi"), _TEXT)),
    "Text": {"type": "string"},
    "Json": {"type": "object"},
    "ProblemPart": _object(
        "code", "detail", code=_TEXT, detail=_TEXT, pointer=_TEXT, line={"type": "integer"},
        column={"type": "integer"},
    ),
    "Problem": _all(_PROBLEM) | {"description": "RFC 9457, with the seeds' error, message, timestamp, details."},
}  # fmt: skip
