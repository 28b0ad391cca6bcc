"""`duework tool …`: what pipelines may call."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.remote import Remote, path, remote


@remote
def list_tools(api: Remote) -> None:
    """List the tools of the catalog."""
    api.show(api.get("/tools")["items"], "address", "transport", "idempotent", "scopes", "description")


@remote
def get(
    api: Remote,
    address: Annotated[str, typer.Argument(help='The address, as "http.get".', show_default=False)],
) -> None:
    """Show one tool: its schemas, its timeout, the scopes it asks for."""
    api.show(api.get(path("tools", address)))
