"""`duework event …`: publish events and list accepted ones."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import typer

from ops.cli.remote import Remote, remote
from ops.cli.runs import parameters
from ops.cli.tasks import Limit


@remote
def send(
    api: Remote,
    topic: Annotated[str, typer.Argument(help='The topic, as "api.changed".', show_default=False)],
    param: Annotated[
        list[str] | None, typer.Option("-p", "--param", help="key=value of the payload.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Who says so; it is then sent as a CloudEvent.")
    ] = None,
    identity: Annotated[
        str | None, typer.Option("--id", help="Two events of one source with the same id are one.")
    ] = None,
) -> None:
    """Publish an event; every active task that waits for its topic is queued."""
    payload = parameters(param or [])
    if source is None:
        body: dict[str, Any] = {"topic": topic, "payload": payload} | ({"id": identity} if identity else {})
    else:
        body = {"specversion": "1.0", "type": topic, "source": source, "data": payload}
        body["id"] = identity or str(uuid.uuid4())
    api.show(api.post("/events", body))


@remote
def list_events(
    api: Remote,
    topic: Annotated[str | None, typer.Option("--topic", help="Only of this topic.")] = None,
    limit: Limit = 50,
) -> None:
    """List accepted events, the latest first."""
    api.show(api.pages("/events", limit, topic=topic), "id", "topic", "source", "accepted_at", "payload")
