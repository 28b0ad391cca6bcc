"""event.publish and task.run_now: a pipeline that sets duework itself in motion.

Both carry the step's idempotency key, so a step that is tried again after a crash does not act twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from engine import db, reflex
from engine.db import Connection, Pool, Row
from engine.durations import format_duration
from engine.errors import (
    GateBlocked,
    InputInvalid,
    NotFound,
    ToolRejected,
    ToolTimeout,
    ValidationFailed,
)
from engine.gate.asking import Ask, judged
from engine.pipeline.params import run_params
from engine.reflex import Policy, Verdict
from engine.reflex.digests import Pardon
from engine.settings import Settings
from engine.store import events, runs, tasks, waits
from engine.store.allowances import AllowList
from engine.store.waits import Wait, Wanted
from engine.tools.builtin.waiting import LONG, left, place, timeout
from engine.tools.calls import Arguments, Call, Parked

SOURCE = "duework"


class DueworkTools:
    """Acts on the worker's own database."""

    def __init__(self, pool: Pool, settings: Settings | None = None, ask: Ask | None = None) -> None:
        self.pool = pool
        self.ask = ask
        self.allowed = AllowList(settings or Settings(), pool)

    async def publish(self, arguments: Arguments, call: Call) -> dict[str, Any]:
        """Accept an event {topic, payload?}; answers {event_id, triggered, resumed_runs, duplicate}."""
        event = events.Event(
            arguments["topic"], arguments.get("payload", {}), SOURCE, call.idempotency_key, call.agent_id
        )
        async with db.transaction(self.pool) as conn:
            answer = await events.publish(conn, event)
        triggered = [
            {"task": one["task"], "run_id": str(one["run_id"]), "deduplicated": one["deduplicated"]}
            for one in answer["triggered"]
        ]
        resumed = [str(run_id) for run_id in answer["resumed"]]
        answered = {"event_id": str(answer["event_id"]), "triggered": triggered, "resumed_runs": resumed}
        return answered | {"duplicate": answer["duplicate"]}

    async def run_now(self, arguments: Arguments, call: Call) -> dict[str, Any]:
        """Queue a run of another task {task, params?}; answers {run_id, task, deduplicated}.

        With `wait` it parks until that run has ended and answers its {status, output, error} too. Raises ToolRejected
        when it ended without success, unless `must_succeed` is false, and ToolTimeout after `timeout`.
        """
        if not arguments.get("wait"):
            async with db.transaction(self.pool) as conn:
                run = await self._queue(conn, arguments, call)
            return {"run_id": str(run["run_id"]), "task": run["task"], "deduplicated": run["deduplicated"]}
        length = timeout(arguments)
        async with db.transaction(self.pool) as conn:
            child, found = await self._await_child(conn, arguments, call, length)
        if found.late:
            raise ToolTimeout(f"run {child['run_id']} did not end within {format_duration(length or LONG)}")
        if found.resolution is None:
            raise Parked(left(found), early=True)
        return _answer(arguments, child, found.resolution)

    async def _await_child(
        self, conn: Connection, arguments: Arguments, call: Call, length: timedelta | None
    ) -> tuple[Row, Wait]:
        """The child's {run_id, deduplicated}, queued at the first call, and the wait for its end."""
        known = await waits.find(conn, place(call))
        if (
            known is not None
        ):  # the key that makes run_now safe to repeat is forgotten after a day, this row is not
            child: Row = {"run_id": known["child_run_id"], **known["given"]}
            live = True
        else:
            run = await self._queue(conn, arguments, call)
            if run["run_id"] == call.run_id:
                raise ToolRejected("the task's dedupe key names this very run: it would wait for itself")
            child = {name: run[name] for name in ("run_id", "task", "deduplicated")}
            live = await waits.watch(conn, run["run_id"])
        given = {name: child[name] for name in ("task", "deduplicated")}
        wanted = Wanted("run", timeout=length, child_run_id=child["run_id"], given=given)
        found = await waits.enter(conn, place(call), call.fence, wanted)
        if not live:
            await waits.ended(conn, [{"run_id": child["run_id"], "linked": True}])
            found = await waits.enter(conn, place(call), call.fence, wanted)
        return child, found

    async def _queue(self, conn: Connection, arguments: Arguments, call: Call) -> Row:
        """Queue a run once for this step, its parameters checked and gated: {run_id, task, deduplicated}."""
        try:
            task = await tasks.get(conn, arguments["task"])
        except NotFound as error:
            raise InputInvalid(str(error)) from error
        if task["status"] == "canceled":
            raise ToolRejected(f"task {task['name']!r} is canceled")
        document = await tasks.definition(conn, task["id"], task["version"])
        params = _params(task["name"], document, arguments.get("params", {}))
        policy = reflex.policy_of(document)
        verdict = await self._judged(params, policy, call)
        if verdict.action != "pass":
            await self.allowed.read(conn)
            verdict = await self._judged(params, policy, call, self.allowed.pardon(task["id"]))
        if verdict.action == "block":
            raise GateBlocked(f"the gate of task {task['name']!r} refused its params")
        request = runs.Request(
            task["id"], "pipeline", params=verdict.value, parent_run_id=call.run_id, created_by=call.agent_id
        )
        try:
            run = await runs.enqueue_once(conn, request, call.idempotency_key)
        except ValidationFailed as error:
            raise InputInvalid(f"task {task['name']!r}: {error}", errors=error.errors) from error
        return run | {"task": task["name"]}

    async def _judged(
        self, params: Any, policy: Policy, call: Call, pardoned: Pardon | None = None
    ) -> Verdict:
        judging = partial(reflex.judge, params, policy, pardoned=pardoned)
        return await judged(self.ask, call.timeout.total_seconds(), lambda search: judging(search=search))


def _answer(arguments: Arguments, child: Row, ended: Mapping[str, Any]) -> dict[str, Any]:
    """What a child came to. Raises ToolRejected where that is not wanted."""
    status, error = ended["status"], ended["error"]
    if status != "succeeded" and arguments.get("must_succeed", True):
        reason = f": {error.get('message')}" if error else ""
        details = {"run_id": str(child["run_id"]), "status": status}
        raise ToolRejected(
            f"run {child['run_id']} of task {child['task']!r} is {status}{reason}", details=details
        )
    answer = {"run_id": str(child["run_id"]), "task": child["task"], "deduplicated": child["deduplicated"]}
    return answer | {"status": status, "output": ended["output"], "error": error}


def _params(name: str, document: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return run_params(name, document, given)
    except ValidationFailed as error:
        raise InputInvalid(error.message, errors=error.errors) from error
