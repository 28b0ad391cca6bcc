"""What callers send."""

from __future__ import annotations

from api.schemas.words import (
    AGENT_NAME,
    ANY,
    FLAG,
    ID,
    REASON,
    SCOPES,
    TEXT,
    TIME,
    TOPIC,
    WEBHOOK,
    WHY,
    Schema,
    may,
    obj,
    ref,
)

BODIES: dict[str, Schema] = {
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
    "RunNow": obj(
        closed=True,
        params={
            "type": "object",
            "description": "Over the definition's own; the result must fit params_schema.",
        },
    )
    | {"examples": [{"params": {"city": "Chisinau"}}]},
    "Reason": obj(closed=True, reason=REASON),
    "Decision": obj(
        "decision",
        "reason",
        closed=True,
        decision={"enum": ["approve", "refuse"]},
        reason=WHY,
        step={"type": "string", "minLength": 1, "description": "Needed where more than one waits."},
        item={"type": "integer", "minimum": 0, "description": "Which item of that step's foreach."},
    )
    | {"examples": [{"decision": "approve", "reason": "checked with the customer"}]},
    "Release": obj(
        "reason",
        closed=True,
        reason=WHY,
        findings={
            "type": "array",
            "items": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "minItems": 1,
            "maxItems": 10_000,
            "uniqueItems": True,
            "description": "The digests of those that may pass; without it all that the run is held for.",
        },
    )
    | {"examples": [{"reason": "the customer's own number, asked for by phone"}]},
    "Refusal": obj("reason", closed=True, reason=WHY)
    | {"examples": [{"reason": "this must not leave the house"}]},
    "Snooze": obj(
        closed=True,
        delay_seconds={"type": "integer", "minimum": 1, "maximum": 315_360_000},
        until=TIME,
        reason=REASON,
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
    "SeedEvent": obj(
        "topic",
        closed=True,
        topic=TOPIC,
        payload={"type": "object"},
        source_agent_id=ID,
        id={"type": "string", "minLength": 1, "maxLength": 255, "description": "The same id is one event."},
    ),
    "CloudEvent": obj(
        "specversion",
        "id",
        "source",
        "type",
        specversion={"const": "1.0"},
        id={"type": "string", "minLength": 1, "maxLength": 255},
        source={"type": "string", "minLength": 1, "maxLength": 500},
        type=TOPIC,
        subject=TEXT,
        time=TIME,
        datacontenttype=TEXT,
        data=ANY,
    ),
    "AgentNew": obj(
        "name",
        closed=True,
        name=AGENT_NAME,
        scopes=SCOPES | {"default": []},
        webhook_url=WEBHOOK,
    )
    | {"examples": [{"name": "reporter", "scopes": ["task:read", "run:read"]}]},
    "AgentChange": obj(closed=True, name=AGENT_NAME, scopes=SCOPES, webhook_url=WEBHOOK, active=FLAG),
    "CredentialNew": obj(closed=True, label={"type": "string", "maxLength": 100}, expires_at=TIME),
    "ReflexAsked": obj(
        "text",
        closed=True,
        text={"type": "string", "maxLength": 1_000_000},
        check_pii=FLAG | {"default": True},
        check_injection=FLAG | {"default": True},
        user_id=may("string"),
        context=may("object"),
    )
    | {"examples": [{"text": "What is the weather in Chisinau?"}]},
}
