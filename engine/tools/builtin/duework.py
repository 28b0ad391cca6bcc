"""event.publish and task.run_now: a pipeline that sets duework itself in motion.

Both carry the step's idempotency key, so a step that is tried again after a crash does not act twice.
"""

from __future__ import annotations

from typing import Any

from engine import db, reflex
from engine.contract import compile_schema
from engine.db import Pool
from engine.errors import GateBlocked, InputInvalid, NotFound, ToolRejected, ValidationFailed
from engine.store import events, runs, tasks
from engine.tools.calls import Arguments, Call

SOURCE = "duework"


class DueworkTools:
    """Acts on the worker's own database."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def publish(self, arguments: Arguments, call: Call) -> dict[str, Any]:
        """Accept an event {topic, payload?}; answers {event_id, triggered, duplicate}."""
        event = events.Event(
            arguments["topic"], arguments.get("payload", {}), SOURCE, call.idempotency_key, call.agent_id
        )
        async with db.transaction(self.pool) as conn:
            answer = await events.publish(conn, event)
        triggered = [
            {"task": one["task"], "run_id": str(one["run_id"]), "deduplicated": one["deduplicated"]}
            for one in answer["triggered"]
        ]
        return {"event_id": str(answer["event_id"]), "triggered": triggered, "duplicate": answer["duplicate"]}

    async def run_now(self, arguments: Arguments, call: Call) -> dict[str, Any]:
        """Queue a run of another task {task, params?}; answers {run_id, task, deduplicated}."""
        async with db.transaction(self.pool) as conn:
            try:
                task = await tasks.get(conn, arguments["task"])
            except NotFound as error:
                raise InputInvalid(str(error)) from error
            if task["status"] == "canceled":
                raise ToolRejected(f"task {task['name']!r} is canceled")
            document = await tasks.definition(conn, task["id"], task["version"])
            given = {**document.get("params", {}), **arguments.get("params", {})}
            checked = compile_schema(document["params_schema"]) if document.get("params_schema") else None
            problems = checked.check(checked.with_defaults(given)) if checked else []
            if problems:
                raise InputInvalid(f"params of task {task['name']!r}: {problems[0].detail}", errors=problems)
            params = checked.with_defaults(given) if checked else given
            verdict = reflex.judge(params, reflex.strictest(reflex.parse_policy(document.get("reflex", {}))))
            if verdict.action == "block":
                raise GateBlocked(f"the gate of task {task['name']!r} refused its params")
            request = runs.Request(
                task["id"],
                "pipeline",
                params=verdict.value,
                parent_run_id=call.run_id,
                created_by=call.agent_id,
            )
            try:
                run = await runs.enqueue_once(conn, request, call.idempotency_key)
            except ValidationFailed as error:
                raise InputInvalid(f"task {task['name']!r}: {error}", errors=error.errors) from error
        return {"run_id": str(run["run_id"]), "task": task["name"], "deduplicated": run["deduplicated"]}
