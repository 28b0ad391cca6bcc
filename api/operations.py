"""Operations: what the API offers, as values.

Each route module lists its operations beside their handlers. The same rows make the router, decide who may
call what, check what comes in, and are written out as OpenAPI; so none of these can disagree.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from engine.contract import Contract
from engine.db import Connection, Pool
from engine.gate.asking import Ask
from engine.gate.client import Remote
from engine.metrics import Metrics
from engine.pipeline import Document
from engine.reflex.detection import hits
from engine.reflex.judging import Search
from engine.settings import Settings
from engine.store import audit
from engine.store.agents import Agent
from engine.store.allowances import AllowList
from engine.tools.registry import Catalog


@dataclass(frozen=True, slots=True)
class Resources:
    """What one API process holds while it is up.

    `contracts` are compiled: bodies by schema name, query strings by the operation's label. `described` is
    the OpenAPI document, `allowed` the findings that people have marked as false. `threads` are admission's: not
    asyncio's own, which a remote gate's name is looked up in while admission waits for that gate.
    """

    settings: Settings
    pool: Pool
    catalog: Catalog
    metrics: Metrics
    contracts: Mapping[str, Contract]
    schema_head: str
    version: str
    described: Mapping[str, Any]
    allowed: AllowList
    threads: ThreadPoolExecutor
    gate: Remote | None = None

    @property
    def ask(self) -> Ask | None:
        """The remote gate, where there is one; in process nobody has to be asked."""
        return None if self.gate is None else self.gate.hits

    @property
    def search(self) -> Search:
        """What finds things in a text, for admission's threads: there the remote gate may be waited for."""
        return hits if self.gate is None else self.gate.search


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler answers; the transaction commits before it is sent.

    `commit` False takes the work back (a dry run). `follow` is awaited after the commit, outside any
    transaction, and its answer is sent instead (waiting for a run).
    """

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    commit: bool = True
    follow: Callable[[], Awaitable[Answer]] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated, authorised and checked request, inside its one transaction.

    `body` is the checked JSON value ({} when there is none); `documents` are the definitions it holds, where
    the operation takes definitions; `query` are the converted query parameters.
    """

    request: Request
    resources: Resources
    conn: Connection
    agent: Agent
    query: Mapping[str, Any]
    body: Any = field(default_factory=dict)
    documents: Sequence[Document] = ()

    @property
    def path(self) -> Mapping[str, str]:
        """Path parameters by name."""
        return self.request.path_params

    @property
    def request_id(self) -> str:
        """The key of this request in logs, audit and answers."""
        return str(self.request.state.request_id)

    def link(self, path: str) -> str:
        """`path` as the client must write it: below `/v1`, or a proxy's prefix, if it came that way."""
        return f"{self.request.scope.get('root_path', '')}{path}"

    async def audit(self, action: str, subject: str, **details: Any) -> None:
        """Add a line to the audit log, in this transaction."""
        await audit.write(self.conn, self.agent.name, action, subject, request_id=self.request_id, **details)


Handler = Callable[[Call], Awaitable[Answer]]
OpenHandler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter: its JSON Schema decides how its text is converted and what is refused."""

    name: str
    schema: Mapping[str, Any]
    text: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    `scope` is what the agent must hold, "" for any agent; an `OpenHandler` needs no agent at all. `answers`
    maps a status to the name of its schema (None: no body). `body` names the schema of the request body;
    with `definitions` the body is one or more task definitions instead. `keyed` operations create work and
    take an Idempotency-Key. Where nothing of the body is `kept`, its texts may be such as no database stores.
    `largest` is the limit of its bytes where it is not that of the settings.
    """

    method: str
    path: str
    handler: Handler | OpenHandler
    tag: str
    summary: str
    answers: Mapping[int, str | None]
    scope: str | None = ""
    body: str | None = None
    body_required: bool = True
    definitions: bool = False
    keyed: bool = False
    query: tuple[Parameter, ...] = ()
    headers: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()
    media: str = "application/json"
    kept: bool = True
    largest: int = 0

    @property
    def open(self) -> bool:
        """Whether it answers without credentials."""
        return self.scope is None

    @property
    def label(self) -> str:
        """How logs and refusals name it."""
        return f"{self.method} {self.path}"


LIMIT = Parameter(
    "limit", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}, "Items of one page, at most."
)
CURSOR = Parameter(
    "cursor",
    {"type": "string", "minLength": 1, "maxLength": 1000},
    "Where the page begins: `next_cursor` of the page before, with the same filters.",
)
OFFSET = Parameter(
    "offset",
    {"type": "integer", "minimum": 0, "maximum": 10_000, "default": 0},
    "Items to leave out; a cursor is faster and does not skip.",
)
DRY_RUN = Parameter(
    "dry_run", {"type": "boolean", "default": False}, "Say what would happen, and change nothing."
)
INSTANT = {"type": "string", "format": "date-time"}
