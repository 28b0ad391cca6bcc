"""What applications ask for by SQL: checked as the API checks a body, then queued, accepted or refused.

Invariants: a request is taken, checked and answered in one transaction, so that a worker killed meanwhile leaves it
to the next; nothing of it is in another table before the gate has seen it; a refusal is in history (or, of an event,
in the verdicts), and a gate or a database that does not answer refuses nothing. Whatever one request brings about, the
others are answered: each has a savepoint of its own.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import psycopg

from engine import db, door, reflex, telemetry
from engine.db import Connection, Pool, Row
from engine.errors import Conflict, DueworkError, GateBlocked, ValidationFailed
from engine.gate.asking import Ask
from engine.metrics import Metrics
from engine.pipeline.params import run_params
from engine.pipeline.shape import unstorable
from engine.settings import Settings
from engine.store import audit, events, leases, requests, runs, tasks, verdicts
from engine.store.allowances import AllowList
from engine.store.requests import Asked

BATCH = 100
"""Requests in one transaction: one commit for all of them."""
BACK = 10_000
"""How many numbers before the last one a look begins: transactions commit in another order than they asked."""
WHOLE_EVERY = 60.0
"""Seconds between looks from the very first number, for what committed later than that."""
UNSTORABLE = ("22", "23502", "23514", "54")
"""SQLSTATEs that another try would end with, too: data that is no data of a column, and more than fits an index."""
Act = Callable[[Connection, Asked], Awaitable[None]]


class RequestCheck:
    """Checks requests; `look` is called as a service, at every poll and whenever somebody has asked."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        metrics: Metrics,
        allowed: AllowList | None = None,
        ask: Ask | None = None,
    ) -> None:
        self.ask = ask
        self.allowed = allowed or AllowList(settings, pool)
        self.floor = door.floor(settings)
        self.pool = pool
        self.metrics = metrics
        self._last = 0
        self._whole_at = 0.0
        self._log = telemetry.logger("workers.requested")

    async def look(self) -> None:
        """One round: everything that has been asked for until now.

        Raises what kept a request from being answered, when the others have been; it is there for the next round.
        """
        now = time.monotonic()
        whole = now >= self._whole_at
        if whole:
            self._whole_at = now + WHOLE_EVERY
        first: int | None = 0 if whole else max(0, self._last - BACK)
        failures: list[Exception] = []
        while first is not None:
            first, failed = await self._batch(first)
            failures += failed[:1]
            if len(failed) == BATCH:
                break  # the gate is away: the rest would fare no better
        if failures:
            raise failures[0]

    async def _batch(self, first: int) -> tuple[int | None, list[Exception]]:
        """Where the next batch begins (None: nowhere), and why requests of this one are still there."""
        async with db.transaction(self.pool) as conn:
            asked = await requests.take(conn, first=first, limit=BATCH)
            outcomes = [await self._answer(conn, each) for each in asked]
        if asked:
            self._last = max(self._last, asked[-1].number)
        following = asked[-1].number + 1 if len(asked) == BATCH else None
        return following, [error for error in outcomes if error is not None]

    async def _answer(self, conn: Connection, asked: Asked) -> Exception | None:
        """None, or what keeps this request from being answered now."""
        error = await self._apart(conn, asked, self._grant)
        refusal = None if error is None else _refusal(error)
        if refusal is None:
            return error
        return await self._apart(conn, asked, partial(self._refuse, error=refusal))

    async def _apart(self, conn: Connection, asked: Asked, act: Act) -> Exception | None:
        """Take the request away and act on it, or neither."""
        try:
            async with conn.transaction():
                await requests.remove(conn, asked.number)
                await act(conn, asked)
        except (
            Exception
        ) as error:  # a request ends here: what it brings about must not stop the ones beside it
            return error
        return None

    async def _grant(self, conn: Connection, asked: Asked) -> None:
        if asked.kind == "run_now":
            await self._run_now(conn, asked)
        elif asked.kind == "publish":
            await self._publish(conn, asked)
        else:
            await self._cancel(conn, asked)

    async def _run_now(self, conn: Connection, asked: Asked) -> None:
        task = await tasks.get(conn, str(asked.task_id))
        if task["status"] == "canceled":
            raise Conflict(f"task {task['name']!r} is canceled and cannot be run")
        document = await tasks.definition(conn, task["id"], task["version"])
        run = await runs.enqueue(
            conn,
            runs.Request(
                task["id"],
                "run_now",
                params=await self._params(task, document, asked),
                run_at=asked.run_at,
                priority=asked.priority,
                run_id=asked.id,
            ),
        )
        if run["deduplicated"]:
            told = {"code": "deduplicated", "message": f"run {run['run_id']} stands for this one"}
            await requests.end(conn, asked.id, task["id"], "skipped", told)
        action = "run.deduplicated" if run["deduplicated"] else "run.requested"
        await audit.write(conn, asked.actor, action, f"run:{run['run_id']}", task=task["name"])

    async def _params(self, task: Row, document: Mapping[str, Any], asked: Asked) -> dict[str, Any] | None:
        content = _content(asked)
        params = run_params(task["name"], document, content)
        if not content:
            return None
        policy = reflex.policy_of(document)
        pardon = self.allowed.pardon(task["id"])
        checked: dict[str, Any] = await door.admit(
            self.metrics, params, policy, "the parameters", pardon, ask=self.ask, task_id=task["id"]
        )
        return checked

    async def _publish(self, conn: Connection, asked: Asked) -> None:
        assert asked.topic is not None, "held by a constraint of the table"
        assert asked.source is not None, "held by a constraint of the table"
        names = {"topic": asked.topic, "source": asked.source, "id": asked.external_id}
        floor, pardon, ask = self.floor, self.allowed.pardon(), self.ask
        await door.admit(self.metrics, names, door.for_names(floor), "the event's names", pardon, ask=ask)
        payload = await door.admit(self.metrics, _content(asked), floor, "the event", pardon, ask=ask)
        event = events.Event(asked.topic, payload, asked.source, asked.external_id, id=asked.id)
        answer = await events.publish(conn, event)
        if not answer["duplicate"]:
            subject = f"event:{answer['event_id']}"
            await audit.write(conn, asked.actor, "event.published", subject, topic=asked.topic)

    async def _cancel(self, conn: Connection, asked: Asked) -> None:
        assert asked.run_id is not None, "held by a constraint of the table"
        reason = reflex.mask(asked.reason or f"canceled by {asked.actor}")
        task_id = await requests.withdraw(conn, asked.run_id)
        if task_id is not None:
            told = {"code": "canceled", "message": reason}
            await requests.end(conn, asked.run_id, task_id, "canceled", told)
        elif await leases.cancel(conn, asked.run_id, reason) is None:
            self._log.info("request.pointless", kind="cancel", run_id=str(asked.run_id))
            return
        await audit.write(conn, asked.actor, "run.canceled", f"run:{asked.run_id}", reason=reason)

    async def _refuse(self, conn: Connection, asked: Asked, error: DueworkError) -> None:
        cause = error.__cause__
        frames = (
            "".join(traceback.format_tb(cause.__traceback__)) if cause else None
        )  # no values, as messages have
        self._log.warning(
            "request.refused", kind=asked.kind, id=str(asked.id), code=error.code, frames=frames
        )
        if isinstance(error, GateBlocked):
            await verdicts.refuse(conn, f"sql:{asked.kind}", error, None)
        told = {"code": error.code, "message": reflex.mask(error.message)}
        if asked.task_id is not None:
            await requests.end(conn, asked.id, asked.task_id, requests.ended_by(error), told)
        subject = f"{'event' if asked.kind == 'publish' else 'run'}:{asked.run_id or asked.id}"
        await audit.write(conn, asked.actor, "request.refused", subject, **told)


class _Failed(DueworkError):
    """A defect of ours; its class says what kind of one, and where it stands is in the log."""


def _refusal(error: Exception) -> DueworkError | None:
    """What the one who asked is told; None where the same request may be granted another time."""
    if isinstance(error, DueworkError):
        return None if error.retryable else error
    if not isinstance(error, psycopg.Error):
        refusal: DueworkError = _Failed(type(error).__name__)
    elif (error.sqlstate or "").startswith(UNSTORABLE):
        refusal = ValidationFailed("it holds a text or a number that cannot be stored")
    else:
        return None
    refusal.__cause__ = error
    return refusal


def _content(asked: Asked) -> dict[str, Any] | None:
    """Parameters or payload. Raises ValidationFailed for what jsonb holds and nothing else would: numbers of
    thousands of digits, thousands of levels."""
    if asked.content is None:
        return None
    what = "the payload" if asked.kind == "publish" else "the parameters"
    try:
        content: dict[str, Any] = json.loads(asked.content)
    except (ValueError, RecursionError):
        raise ValidationFailed(f"{what} cannot be read: a number is too long, or it is too deep") from None
    problems = unstorable(content)
    if problems:
        first = problems[0]
        raise ValidationFailed(f"{what} cannot be stored: {first.pointer}: {first.detail}", errors=problems)
    return content
