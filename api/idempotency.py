"""Idempotency-Key: the first answer to a keyed request is kept, in the transaction that did its work."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import timedelta
from typing import Any

from psycopg.types.json import Jsonb
from starlette.requests import Request

from api.operations import Answer
from api.rendering import to_json
from engine import db
from engine.db import Connection
from engine.errors import Conflict, Malformed, ValidationFailed
from engine.store.agents import Agent

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


def key_of(request: Request) -> str | None:
    """The key of a request. Raises Malformed for one that is not 1 to 255 visible ASCII characters."""
    key = request.headers.get(HEADER)
    if key is not None and not _KEY.fullmatch(key):
        raise Malformed(f"{HEADER} must be 1 to 255 visible ASCII characters")
    return key


def stored(key: str) -> str:
    """What the table knows a key by: it is the client's free text, and may hold anything."""
    return hashlib.sha256(key.encode()).hexdigest()


def digest(request: Request, data: bytes) -> bytes:
    """What must be the same when a key comes again: method, path, query and body."""
    head = f"{request.method} {request.scope['path']}?{request.url.query}\n".encode()
    return hashlib.sha256(head + data).digest()


async def recall(conn: Connection, agent: Agent, key: str, request: bytes) -> Answer | None:
    """The first answer under this key, or None, which also takes the key until the transaction ends.

    Raises Conflict while another request with the key is under way, ValidationFailed when it had other content.
    """
    row = await db.fetch_one(conn, "find_key", {"agent_id": agent.id, "key": stored(key)})
    assert row is not None, "the query always has one row"
    if not row["mine"]:
        raise Conflict(f"a request with this {HEADER} is still under way", retry_after=timedelta(seconds=1))
    if row["request"] is None:
        return None
    if bytes(row["request"]) != request:
        raise ValidationFailed(f"this {HEADER} was used for another request; take a new one")
    return Answer(row["body"], row["status"], {**row["headers"], REPLAYED: "true"})


async def remember(conn: Connection, agent: Agent, key: str, request: bytes, answer: Answer) -> None:
    """Keep the answer beside its work. Raises Conflict when somebody else answered under the key meanwhile."""
    body: Any = json.loads(to_json(answer.body))
    values = {
        "agent_id": agent.id,
        "key": stored(key),
        "request": request,
        "status": answer.status,
        "headers": Jsonb(dict(answer.headers)),
        "body": Jsonb(body),
    }
    if await db.fetch_one(conn, "insert_key", values) is None:
        raise Conflict(f"a request with this {HEADER} has just been answered; send it again to see how")
