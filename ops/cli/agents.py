"""`duework agent …`: who may call the API. Needs the scope `admin`."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.output import confirm, say
from ops.cli.remote import Remote, path, remote
from ops.cli.tasks import Yes

Agent = Annotated[str, typer.Argument(help="The agent's name or id.", show_default=False)]


@remote
def list_agents(api: Remote) -> None:
    """List agents and their scopes."""
    api.show(api.get("/agents")["items"], "name", "scopes", "active", "created_at")


@remote
def create(
    api: Remote,
    name: Annotated[str, typer.Argument(help="Its name.", show_default=False)],
    scope: Annotated[
        list[str] | None, typer.Option("--scope", "-s", help="A scope, as task:read; may be repeated.")
    ] = None,
) -> None:
    """Make an agent. `duework agent token NAME` then gives it a token."""
    api.show(api.post("/agents", {"name": name, "scopes": scope or []}), "name", "scopes", "id")


@remote
def token(
    api: Remote,
    agent: Agent,
    label: Annotated[str | None, typer.Option("--label", help="What it is for.")] = None,
) -> None:
    """Give an agent a new token. It is shown now and never again; only its digest is stored."""
    say("keep it now: it is not shown again")
    api.show(api.post(path("agents", agent, "credentials"), {"label": label} if label else {}))


@remote
def revoke(api: Remote, agent: Agent, yes: Yes = False) -> None:
    """Revoke every token of an agent."""
    confirm(f"Revoke every token of {agent!r}?", yes)
    api.show(api.send("DELETE", path("agents", agent, "credentials")))
