"""What the MCP server offers: tools, each of them one operation of the REST API.

A tool's schemas are made of those that the operation's body, query and answer have, so the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from api import schemas
from api.operations import Operation
from api.routes import operations
from engine.contract import Contract, compile_schema

WAIT = {
    "type": "integer",
    "minimum": 1,
    "maximum": 60,
    "description": "Seconds to wait for the run's end, at most.",
}
PLACE = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[^/]*[^/.][^/]*$"}
"""One segment of a path. A slash or nothing but dots would lead to another operation than the tool's."""
DEFINITION = {
    "type": ["object", "string"],
    "description": "The pipeline: an object as in schemas/pipeline-v1.json, or YAML text.",
}
NAMES = {
    "task": "The task's name or id.",
    "run_id": "The run's id.",
    "address": "The tool's address, as core.echo.",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """One tool. `place` is the argument that stands in the path, `query` are the parameters that it takes,
    `fixed` those that it sends; with `wait` it may wait for a run."""

    name: str
    label: str
    text: str
    place: str = ""
    query: tuple[str, ...] = ()
    fixed: Mapping[str, str] | None = None
    wait: bool = False
    destructive: bool = False
    idempotent: bool = False

    @property
    def operation(self) -> Operation:
        """What it calls."""
        return _by_label()[self.label]

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return (
            self.operation.method == "GET"
            or self.label == "POST /schedules/preview"
            or self.fixed is not None
        )

    @property
    def given_whole(self) -> bool:
        """Whether the body is the one argument `definition`, and not made of arguments."""
        return self.operation.definitions


OFFERS: Sequence[Offer] = (
    Offer("list_tasks", "GET /tasks", "List tasks with their schedules and states.",
          query=("status", "kind", "label", "q", "cursor", "limit")),
    Offer("get_task", "GET /tasks/{id}", "Show one task with its definition, version and next run.", "task"),
    Offer("next_runs", "GET /tasks/{id}/next", "Show when a task runs next, in its own zone and in UTC.",
          "task", ("n",)),
    Offer("preview_schedule", "POST /schedules/preview",
          "Show when a schedule would fire, with the days on which clocks change, before a task is made of it."),
    Offer("validate_pipeline", "POST /tasks",
          "Check a pipeline's definition through and through and change nothing: every problem with its place, "
          "warnings, and the next runs.", fixed={"dry_run": "true"}),
    Offer("create_task", "POST /tasks", "Define a task: a pipeline with its schedule. Validate it first."),
    Offer("update_task", "PATCH /tasks/{id}", "Change a task by a merge patch, or by a whole definition.", "task",
          destructive=True, idempotent=True),
    Offer("run_task", "POST /tasks/{id}/run_now",
          "Run a task now, with parameters over its own. Waits for the end if asked to, else answers with the "
          "queued run.", "task", wait=True),
    Offer("pause_task", "POST /tasks/{id}/pause", "Stop a task's schedule until it is resumed.", "task",
          idempotent=True),
    Offer("resume_task", "POST /tasks/{id}/resume", "Start a paused task's schedule again.", "task", idempotent=True),
    Offer("list_runs", "GET /runs", "List runs, newest first.",
          query=("task", "status", "success", "trigger", "since", "until", "cursor", "limit")),
    Offer("get_run", "GET /runs/{id}",
          "Show one run: its attempts, its steps with what the gate said, and what it waits for.", "run_id"),
    Offer("cancel_run", "POST /runs/{id}/cancel", "End a run that has not ended.", "run_id",
          destructive=True, idempotent=True),
    Offer("retry_run", "POST /runs/{id}/retry", "Run again what has failed, as a run of its own.", "run_id"),
    Offer("approve_run", "POST /runs/{id}/approve", "Decide for a step that waits for a person.", "run_id",
          destructive=True, idempotent=True),
    Offer("publish_event", "POST /events", "Publish an event; tasks and runs that wait for its topic go on."),
    Offer("list_tools", "GET /tools", "List the catalog: the tools that steps may use, with their schemas."),
    Offer("get_tool", "GET /tools/{address}", "Show one tool of the catalog, with an example.", "address"),
)  # fmt: skip


@cache
def by_name() -> Mapping[str, Offer]:
    """The offers by their names."""
    return {offer.name: offer for offer in OFFERS}


@cache
def contract(name: str) -> Contract:
    """What the arguments of a tool are held against."""
    return compile_schema(taken(name))


@cache
def taken(name: str) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments; treat it as read-only."""
    offer = by_name()[name]
    operation = offer.operation
    properties: dict[str, Any] = {}
    required = []
    if offer.place:
        properties[offer.place] = {**PLACE, "description": NAMES[offer.place]}
        required.append(offer.place)
    for parameter in operation.query:
        if parameter.name in offer.query:
            properties[parameter.name] = {**parameter.schema, "description": parameter.text}
    bundled: dict[str, Any] = {}
    if offer.given_whole:
        properties["definition"] = DEFINITION
        required.append("definition")
    elif operation.body:
        whole = schemas.bundle(_spread(operation.body))
        bundled = {"components": whole["components"]}
        body = whole["components"]["schemas"][_spread(operation.body)]
        properties |= body["properties"]
        required += body.get("required", [])
    if offer.wait:
        properties["wait_seconds"] = WAIT
    made: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return made | ({"required": required} if required else {}) | bundled


@cache
def given(name: str) -> dict[str, Any]:
    """The JSON Schema of what a tool answers; treat it as read-only."""
    names = dict.fromkeys(each for each in _successes(by_name()[name]) if each)
    if len(names) == 1:
        return {"type": "object", **schemas.bundle(next(iter(names)))}
    parts = [schemas.bundle(name) for name in names]
    known = {name: schema for part in parts for name, schema in part["components"]["schemas"].items()}
    whole = {"type": "object", "components": {"schemas": known}}
    return whole | {"anyOf": [{"$ref": part["$ref"]} for part in parts]}


def _successes(offer: Offer) -> Iterator[str | None]:
    """The schemas of the answers that it can get: a dry run answers a plan, and nothing else does."""
    for status, name in offer.operation.answers.items():
        if status < 300 and (name == "Plan") == (offer.fixed is not None):
            yield name


def _spread(body: str) -> str:
    """The object of which a body's arguments are made: where there are several forms, the plain one that says all."""
    return {"EventNew": "SeedEvent", "PreviewAsked": "ScheduleAsked"}.get(body, body)


@cache
def _by_label() -> Mapping[str, Operation]:
    return {operation.label: operation for operation in operations()}
