"""`duework tool import-mcp`: the tools of an MCP server become a file of the catalog, which a person then reads."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from engine import reflex, telemetry
from engine.errors import InputInvalid
from engine.settings import Settings, load
from engine.tools.children.processes import Processes
from engine.tools.mcp.client import McpTools
from engine.tools.mcp.importing import imported
from engine.tools.mcp.server import Listed, Server, server
from ops.cli.exits import Exit
from ops.cli.output import confirm, say
from ops.cli.tasks import Yes


def import_mcp(
    name: Annotated[
        str, typer.Argument(help="What the tools are called before their own names.", show_default=False)
    ],
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND", help="The program that is the server, after --.", show_default=False
        ),
    ] = None,
    url: Annotated[str, typer.Option("--url", help="Where the server speaks streamable HTTP.")] = "",
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME=VALUE", help="For the program; '${secrets.NAME}' is put in."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", metavar="NAME=VALUE", help="For the URL; '${secrets.NAME}' is put in."),
    ] = None,
    cwd: Annotated[str, typer.Option("--cwd", help="The program's working directory.")] = "",
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A private host that the tools may reach.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="The file; default NAME.yaml in the folder DUEWORK_CATALOG.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Write the tools of an MCP server into the catalog. What changed since the last time is shown first.

    The server is given by its URL, or by a command after `--`.
    """
    settings = load()
    telemetry.configure(replace(settings, log_level="WARNING"), reflex.mask)
    options = _options(command or [], url, _pairs(env or []), _pairs(header or []), cwd)
    hosts = tuple(allow_host or ())
    path = file or _place(settings, name)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    listed = asyncio.run(_listed(settings, server(options, name, hosts)))
    _write(path, name, options, hosts, listed, before, yes)


def _write(
    path: Path,
    name: str,
    options: dict[str, Any],
    hosts: Sequence[str],
    listed: Sequence[Listed],
    before: str,
    yes: bool,
) -> None:
    made = imported(name, options, hosts, listed, before)
    for words in made.refused:
        say(f"left out: {words}")
    if not made.changes:
        say(f"{path} is as the server says")
        return
    if before:
        lines = difflib.unified_diff(
            before.splitlines(), made.text.splitlines(), "before", "after", lineterm=""
        )
        print("\n".join(lines))
        confirm(f"Change {path} ({'; '.join(made.changes)})?", yes)
    path.write_text(made.text, encoding="utf-8")
    for change in made.changes:
        say(change)
    say(f"written to {path}: read it, and say which tools are idempotent and who may call them")


def _options(
    command: Sequence[str], url: str, env: dict[str, str], headers: dict[str, str], cwd: str
) -> dict[str, Any]:
    given = {"command": list(command), "url": url, "env": env, "headers": headers, "cwd": cwd}
    if command and "/" in command[0]:  # a worker's folder is another one
        given["command"] = [str(Path(cwd, command[0]).absolute()), *command[1:]]
    if bool(command) == bool(url):
        say("error: give the server's --url, or the command that starts it after --")
        raise typer.Exit(Exit.USAGE)
    return {key: value for key, value in given.items() if value}


def _pairs(given: Sequence[str]) -> dict[str, str]:
    wrong = [one for one in given if "=" not in one]
    if wrong:
        raise InputInvalid(f"{wrong[0]!r} is not NAME=VALUE")
    return dict(one.split("=", 1) for one in given)


def _place(settings: Settings, name: str) -> Path:
    if settings.catalog is None:
        raise InputInvalid("name the --file to write, or the catalog's folder with DUEWORK_CATALOG")
    return settings.catalog / f"{name}.yaml"


async def _listed(settings: Settings, asked: Server) -> list[Listed]:
    processes = Processes()
    tools = McpTools(settings, processes)
    try:
        return await tools.tools(asked)
    finally:
        await tools.close()
        await processes.close()
