"""From a route to its handler: what happens to every request that needs an agent, in one order, in one place.

    negotiate → read the body → BEGIN → agent → scope → query and body checked → Idempotency-Key → handler → COMMIT

The body is read before the transaction begins, so that a slow client holds no connection; nothing is parsed
for somebody who may not call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import psycopg
from starlette.requests import Request
from starlette.responses import Response

from api import auth, bodies, idempotency, parameters, problems
from api.operations import Answer, Call, Handler, OpenHandler, Operation, Resources
from api.rendering import to_json
from engine import db, telemetry
from engine.db import Connection
from engine.errors import GateBlocked, StoreUnavailable
from engine.store import verdicts
from engine.store.agents import Agent


def endpoint(operations: Mapping[str, Operation]) -> OpenHandler:
    """The Starlette endpoint of one path: `operations` by method."""

    async def serve(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        operation = operations[method]
        _negotiate(request, operation)
        if operation.open:
            return await cast(OpenHandler, operation.handler)(request)
        return await _serve(request, operation)

    return serve


async def _serve(request: Request, operation: Operation) -> Response:
    resources: Resources = request.app.state.resources
    auth.bearer(request)
    data = await bodies.read(request, operation.largest or resources.settings.max_body_bytes)
    try:
        answer = await _transact(request, operation, resources, data)
        if answer.follow is not None:
            answer = await answer.follow()
    except StoreUnavailable as error:
        # What the driver says names hosts and users: that is for the log, not for whoever calls.
        telemetry.logger("api").warning("database.unreachable", error=error.message)
        raise StoreUnavailable("the database does not answer; try again") from error
    except psycopg.Error as error:
        meant = problems.of_database(error)
        if meant is None:
            raise
        raise meant from error
    body = b"" if answer.body is None else to_json(answer.body)
    media = "application/json" if body else None
    return Response(body, answer.status, dict(answer.headers), media)


async def _transact(request: Request, operation: Operation, resources: Resources, data: bytes) -> Answer:
    agent: Agent | None = None
    answer = Answer()
    try:
        async with db.transaction(resources.pool) as conn:
            agent = await auth.authenticate(conn, request, resources.settings)
            request.state.agent = agent.name
            if operation.scope:
                agent.require(operation.scope)
            answer = await _answer(request, operation, resources, conn, agent, data)
            if not answer.commit:
                raise psycopg.Rollback
    except GateBlocked as refused:
        # The work is rolled back with its transaction; that it was refused is kept in one of its own.
        telemetry.logger("api").info("gate.blocked", surface=operation.label, reason=refused.message)
        async with db.transaction(resources.pool) as conn:
            await verdicts.refuse(conn, operation.label, refused, agent.id if agent else None)
        raise
    return answer


async def _answer(
    request: Request, operation: Operation, resources: Resources, conn: Connection, agent: Agent, data: bytes
) -> Answer:
    query = parameters.parse(request.query_params, operation.query, resources.contracts[operation.label])
    key = idempotency.key_of(request) if operation.keyed else None
    digest = idempotency.digest(request, data)
    if key is not None:
        known = await idempotency.recall(conn, agent, key, digest)
        if known is not None:
            return known
    call = await _with_body(Call(request, resources, conn, agent, query), operation, data)
    answer = await cast(Handler, operation.handler)(call)
    if key is not None and answer.commit:
        await idempotency.remember(conn, agent, key, digest, answer)
    return answer


async def _with_body(call: Call, operation: Operation, data: bytes) -> Call:
    """The call with its body, checked against the schema that OpenAPI publishes."""
    if not (operation.definitions or operation.body):
        return call
    media = call.request.headers.get("content-type")
    found = await bodies.documents(data, media, kept=operation.kept)
    if operation.definitions:
        return replace(call, documents=found)
    contract = call.resources.contracts[str(operation.body)]
    return replace(
        call, body=bodies.value(found, contract, required=operation.body_required, kept=operation.kept)
    )


def _negotiate(request: Request, operation: Operation) -> None:
    """Raises NotAcceptable when the Accept header excludes what this operation answers with."""
    accepted = request.headers.get("accept")
    if not accepted:
        return
    kind = operation.media.partition("/")[0]
    for part in accepted.split(","):
        name, *settings = (piece.strip().lower() for piece in part.split(";"))
        if name in ("*/*", f"{kind}/*", operation.media) and "q=0" not in settings:
            return
    raise problems.NotAcceptable(f"this path answers with {operation.media}; accept that, or */*")
