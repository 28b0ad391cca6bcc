"""Agents: authenticated callers, their scopes and the digests of their tokens."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, or_, select, update

from engine import db
from engine.db import Connection, Row
from engine.errors import AuthorizationFailed, Conflict, NotFound
from engine.store.tables import agent, agent_token

SYSTEM_AGENT = UUID("00000000-0000-0000-0000-000000000001")
SYSTEM_NAME = "system-agent"
EMBEDDED_CLUSTER = "duework-embedded"
"""`cluster_name` of the servers that `ops.embedded` starts."""
TOKEN_PREFIX = "dw_"  # noqa: S105 — the visible start of every token, by which leaked ones are recognised
SCOPES = [
    "task:read",
    "task:write",
    "task:run",
    "run:read",
    "run:write",
    "event:publish",
    "reflex:use",
    "reflex:release",
    "reflex:loosen",
    "audit:read",
    "admin",
]
_OF_TOOLS = re.compile(
    r"tool:(?:[A-Za-z0-9_.-]*\*|[A-Za-z0-9_.-]+)|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.(?:\*|[A-Za-z0-9_-]+)"
)


@dataclass(frozen=True, slots=True)
class Agent:
    """Who acts: the answer of authentication."""

    id: UUID
    name: str
    scopes: frozenset[str]

    def allows(self, scope: str) -> bool:
        """`admin` allows everything; `tool:http.*` allows `tool:http.get`."""
        if "admin" in self.scopes or scope in self.scopes:
            return True
        return any(held.endswith("*") and scope.startswith(held[:-1]) for held in self.scopes)

    def require(self, scope: str) -> None:
        """Raises AuthorizationFailed that names the missing scope."""
        if not self.allows(scope):
            raise AuthorizationFailed(
                f"agent {self.name!r} lacks the scope {scope!r}; an admin can grant it",
                details={"scope": scope},
            )


def new_token() -> str:
    """256 random bits, readable by secret scanners through their prefix."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).digest()


async def by_token(conn: Connection, token: str) -> Agent | None:
    """The agent that holds this token; None for unknown, expired or revoked ones."""
    row = await db.fetch_one(conn, "find_agent", {"digest": digest(token)})
    return Agent(row["id"], row["name"], frozenset(row["scopes"])) if row else None


async def embedded_system(conn: Connection) -> Agent | None:
    """The seeded admin agent, if this database is an embedded one."""
    here = func.current_setting("cluster_name") == EMBEDDED_CLUSTER
    statement = select(agent.c.id, agent.c.name, agent.c.scopes)
    rows = await db.select(conn, statement.where(agent.c.id == SYSTEM_AGENT, agent.c.active, here))
    return Agent(rows[0]["id"], rows[0]["name"], frozenset(rows[0]["scopes"])) if rows else None


async def author(conn: Connection, task_id: UUID, version: int) -> Agent | None:
    """Who wrote a version of a task, with what they may do now: nothing, for one who is not active."""
    row = await db.fetch_one(conn, "find_author", {"task_id": task_id, "version": version})
    return Agent(row["id"], row["name"], frozenset(row["scopes"])) if row else None


async def any_token(conn: Connection) -> bool:
    """Whether any active agent has a token that works."""
    usable = or_(agent_token.c.expires_at.is_(None), agent_token.c.expires_at > func.now())
    statement = select(agent_token.c.agent_id).join(agent, agent.c.id == agent_token.c.agent_id)
    statement = statement.where(agent.c.active, agent_token.c.revoked_at.is_(None), usable)
    return bool(await db.select(conn, statement.limit(1)))


async def get(conn: Connection, ref: str | UUID) -> Row:
    """The agent with this id or name. Raises NotFound."""
    rows = await db.select(conn, select(agent).where(_matches(ref)))
    if not rows:
        raise NotFound(f"there is no agent {str(ref)!r}; `duework agent list` shows those there are")
    return rows[0]


async def page(conn: Connection, *, limit: int = 200) -> list[Row]:
    """All agents by name."""
    return await db.select(conn, select(agent).order_by(agent.c.name).limit(limit))


async def create(
    conn: Connection, name: str, scopes: Iterable[str], *, webhook_url: str | None = None
) -> Row:
    """Insert an agent without a token. Raises Conflict when the name is taken."""
    if await db.select(conn, select(agent.c.id).where(agent.c.name == name)):
        raise Conflict(f"an agent named {name!r} exists")
    values = {"name": name, "scopes": sorted(scopes), "webhook_url": webhook_url}
    return (await db.select(conn, insert(agent).values(values).returning(agent)))[0]


async def change(conn: Connection, ref: str | UUID, **values: Any) -> Row:
    """Change name, scopes, webhook_url or active. Raises Conflict when no active admin would be left."""
    current = await get(conn, ref)
    statement = update(agent).where(agent.c.id == current["id"])
    changed = (await db.select(conn, statement.values(**values, updated_at=func.now()).returning(agent)))[0]
    await _require_admin(conn)
    return changed


async def add_token(
    conn: Connection, agent_id: UUID, *, label: str = "", expires_at: datetime | None = None
) -> str:
    """Make a token; it is returned here once and stored as a digest."""
    token = new_token()
    values = {"digest": digest(token), "agent_id": agent_id, "label": label, "expires_at": expires_at}
    await db.select(conn, insert(agent_token).values(values))
    return token


async def revoke_tokens(conn: Connection, agent_id: UUID) -> int:
    """Revoke every token of an agent; how many there were."""
    live = agent_token.c.revoked_at.is_(None)
    statement = update(agent_token).where(agent_token.c.agent_id == agent_id, live)
    return len(await db.select(conn, statement.values(revoked_at=func.now()).returning(agent_token.c.digest)))


def unknown_scopes(scopes: Iterable[str]) -> Sequence[str]:
    """Those that mean nothing: not in SCOPES, not `tool:` followed by something, and no words with dots between them.

    The last are a catalog's own, as the seeds write them (003: `my-service.read`); like `tool:` they may end in `*`.
    """
    return [scope for scope in scopes if scope not in SCOPES and not _OF_TOOLS.fullmatch(scope)]


def _matches(ref: str | UUID) -> Any:
    try:
        return agent.c.id == (ref if isinstance(ref, UUID) else UUID(ref))
    except ValueError:
        return agent.c.name == ref


async def _require_admin(conn: Connection) -> None:
    admins = select(func.count().label("n")).where(agent.c.active, agent.c.scopes.contains(["admin"]))
    if not (await db.select(conn, admins))[0]["n"]:
        raise Conflict("this would leave no active agent with the scope 'admin'; make another one first")
