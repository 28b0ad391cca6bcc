"""`duework agent …`: who may call the API. Needs the scope `admin`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from engine import db
from engine.store import agents, audit
from ops.cli.local import loaded
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
    direct: Annotated[
        bool,
        typer.Option("--direct", help="Write to the database itself, without a token: for the first one."),
    ] = False,
) -> None:
    """Give an agent a new token. It is shown now and never again; only its digest is stored.

    The first token of an installation is made with `duework agent token system-agent --direct`, by whoever may
    write to the database.
    """
    say("keep it now: it is not shown again")
    if direct:
        api.show(asyncio.run(_made_directly(agent, label or "")))
    else:
        api.show(api.post(path("agents", agent, "credentials"), {"label": label} if label else {}))


async def _made_directly(agent: str, label: str) -> dict[str, str]:
    """A token made without the API, and the line in the audit log that says so."""
    async with await db.connect(loaded().database_url, "cli") as conn, conn.transaction():
        row = await agents.get(conn, agent)
        made = await agents.add_token(conn, row["id"], label=label)
        subject = f"agent:{row['id']}"
        await audit.write(conn, "command-line", "agent.token_made", subject, name=row["name"], label=label)
    return {"agent_id": str(row["id"]), "token": made, "token_type": "Bearer", "label": label}


@remote
def revoke(api: Remote, agent: Agent, yes: Yes = False) -> None:
    """Revoke every token of an agent."""
    confirm(f"Revoke every token of {agent!r}?", yes)
    api.show(api.send("DELETE", path("agents", agent, "credentials")))
