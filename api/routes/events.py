"""/events: what happened elsewhere, and the tasks that wait for it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from api import cursors, presentation
from api.operations import CURSOR, LIMIT, Answer, Call, Operation, Parameter
from engine import door
from engine.errors import AuthorizationFailed
from engine.store import events
from engine.store.events import Event


async def publish(call: Call) -> Answer:
    """Accept an event, in the seed's shape or as a CloudEvent, and queue the tasks that wait for it."""
    given = _cloud_event(call.body) if "specversion" in call.body else _seed_event(call)
    resources = call.resources
    floor, ask = door.floor(resources.settings), resources.ask
    names = {name: given[name] for name in ("topic", "source", "id")}
    pardon = resources.allowed.pardon()
    await door.admit(resources.metrics, names, door.for_names(floor), "the event's names", pardon, ask=ask)
    payload = await door.admit(resources.metrics, given["payload"], floor, "the event", pardon, ask=ask)
    event = Event(given["topic"], payload, given["source"], given["id"], call.agent.id)
    answer = presentation.triggered(await events.publish(call.conn, event))
    if not answer["duplicate"]:
        await call.audit("event.published", f"event:{answer['event_id']}", topic=event.topic)
    return Answer(answer, 202)


async def listing(call: Call) -> Answer:
    """Accepted events, newest first."""
    place = cursors.decode(call.query["cursor"], call.query, datetime, UUID)
    rows = await events.page(
        call.conn, topic=call.query["topic"], before=place, limit=call.query["limit"] + 1
    )
    return Answer(
        cursors.page(rows, call.query, lambda row: (row["accepted_at"], row["id"]), presentation.event)
    )


async def topics(call: Call) -> Answer:
    """The topics seen so far, the most frequent first."""
    return Answer({"items": await events.topics(call.conn)})


def _seed_event(call: Call) -> dict[str, Any]:
    body = call.body
    named = body.get("source_agent_id")
    if named is not None and UUID(named) != call.agent.id and not call.agent.allows("admin"):
        raise AuthorizationFailed(
            "only an admin may publish in another agent's name", details={"scope": "admin"}
        )
    source = f"agent:{named or call.agent.id}"
    return {
        "topic": body["topic"],
        "payload": body.get("payload", {}),
        "source": source,
        "id": body.get("id"),
    }


def _cloud_event(body: dict[str, Any]) -> dict[str, Any]:
    """CloudEvents 1.0, structured mode: `type` is the topic, (`source`, `id`) names it for good."""
    data = body.get("data")
    payload = data if isinstance(data, dict) else {} if data is None else {"data": data}
    return {"topic": body["type"], "payload": payload, "source": body["source"], "id": body["id"]}


OPERATIONS = (
    Operation(
        "POST", "/events", publish, "events", "Publish an event", {202: "EventAccepted"},
        scope="event:publish", body="EventNew", keyed=True, errors=(422,),
    ),
    Operation(
        "GET", "/events", listing, "events", "List events", {200: "EventPage"}, scope="run:read",
        query=(
            Parameter("topic", {"type": "string", "minLength": 1, "maxLength": 200}, "Only this topic."),
            CURSOR,
            LIMIT,
        ),
    ),
    Operation(
        "GET", "/events/topics", topics, "events", "Topics and how often each came", {200: "Topics"},
        scope="run:read",
    ),
)  # fmt: skip
