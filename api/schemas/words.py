"""The words that schemas of bodies and answers are written with."""

from __future__ import annotations

import copy
from typing import Any

Schema = dict[str, Any]
HERE = "#/components/schemas/"


def ref(name: str) -> Schema:
    """A reference to a named schema."""
    return {"$ref": HERE + name}


def obj(*required: str, closed: bool = False, **properties: Any) -> Schema:
    made: Schema = {"type": "object", "properties": copy.deepcopy(properties)}
    if required:
        made["required"] = list(required)
    return made | ({"additionalProperties": False} if closed else {})


def page(name: str) -> Schema:
    items = {"type": "array", "items": ref(name)}
    return obj("items", "next_cursor", "has_more", items=items, next_cursor=may("string"), has_more=FLAG)


def listing(name: str, **more: Any) -> Schema:
    return obj("items", items={"type": "array", "items": ref(name)}, **more)


def may(kind: str, **more: Any) -> Schema:
    return {"type": [kind, "null"], **more}


ID = {"type": "string", "format": "uuid"}
MAY_ID = {"type": ["string", "null"], "format": "uuid"}
TIME = {"type": "string", "format": "date-time"}
MAY_TIME = {"type": ["string", "null"], "format": "date-time"}
TEXT = {"type": "string"}
FLAG = {"type": "boolean"}
COUNT = {"type": "integer", "minimum": 0}
ANY: Schema = {}
REASON = {
    "type": "string",
    "maxLength": 1000,
    "description": "Kept with the change; personal data is masked.",
}
WHY = {"type": "string", "minLength": 1, "maxLength": 1000, "description": "Why; it passes the gate."}
TOPIC = {
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$",
    "maxLength": 200,
    "errorMessage": "a topic is words with dots between them, like 'email.received'",
}
AGENT_NAME = {
    "type": "string",
    "pattern": "^[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?$",
    "errorMessage": "a name has 1 to 100 lower-case letters, digits and ._- between them",
}
SCOPES = {
    "type": "array",
    "items": {"type": "string", "pattern": "^[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)?[*]?$"},
    "maxItems": 200,
    "uniqueItems": True,
}
WEBHOOK = {"type": ["string", "null"], "format": "uri", "pattern": "^https?://", "maxLength": 2000}
