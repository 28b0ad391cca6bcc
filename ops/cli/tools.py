"""`duework tool …`: what pipelines may call, tried and checked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from engine import reflex, telemetry
from engine.errors import NotFound, ValidationFailed
from engine.gate.client import open_gate
from engine.metrics import Metrics
from engine.pipeline import load_documents
from engine.settings import Settings, load
from engine.tools.registry import load_catalog
from engine.tools.toolbox import open_toolbox
from engine.trial import try_tool
from ops.cli.documents import STDIN, Checked, files
from ops.cli.exits import Exit
from ops.cli.output import Format, Output, say
from ops.cli.remote import Remote, path, remote

Address = Annotated[
    str,
    typer.Argument(help='The address, as "http.get", or "http.get@2" for one version.', show_default=False),
]
EXITS: Mapping[str, int] = {"succeeded": 0, "blocked": Exit.BLOCKED}
COLUMNS = ("tool", "status", "duration_ms", "output", "error", "verdict")


@remote
def list_tools(api: Remote) -> None:
    """List the tools of the catalog, with the state of their circuit breakers and their limits."""
    items = [{**each, "limits": _limits(each)} for each in api.get("/tools")["items"]]
    api.show(items, "address", "version", "transport", "breaker_state", "limits", "scopes", "description")


@remote
def get(api: Remote, address: Address) -> None:
    """Show one tool: its schemas, its timeout, its limits, the scopes it asks for."""
    api.show(api.get(path("tools", address)))


@remote
def try_one(
    api: Remote,
    address: Address,
    given: Annotated[
        str, typer.Option("-i", "--input", help="The input: JSON, or @FILE, or - for standard input.")
    ] = "{}",
    local: Annotated[
        bool, typer.Option("--local", help="Call it here, without server and database.")
    ] = False,
) -> None:
    """Call one tool now, through its schemas, the gate and its limits. Exit code 1 when it fails, 7 when blocked."""
    arguments = _input(given)
    if local:
        settings = load()
        telemetry.configure(settings, reflex.mask)  # what a function of ours prints is shown, on stderr
        answer = asyncio.run(_here(address, arguments, settings))
    else:
        answer = api.send("POST", path("tools", address, "test"), json={"input": arguments}, wait=3600)
    api.show(answer, *COLUMNS)
    code = EXITS.get(answer["status"], Exit.FAILED)
    if code:
        raise typer.Exit(code)


def lint(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Catalog files or folders; the folder DUEWORK_CATALOG without any.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Format, typer.Option("-o", "--output", help="How to print what is wrong.")
    ] = Format.TABLE,
) -> None:
    """Check catalog files without a server: file:line:column: code: message; exit code 3 on an error."""
    from ops.cli.catalogs import check
    from ops.cli.definitions import counted, line_of, located

    settings = load()
    telemetry.configure(replace(settings, log_level="WARNING"), reflex.mask)
    found: list[Checked] = asyncio.run(check(files(paths or _catalog(settings)), settings))
    listed = list(located(found))
    if output is Format.TABLE:
        for each in listed:
            print(line_of(*each))
    else:
        Output(output).show([{"source": s, "severity": v, **problem.as_dict()} for s, v, problem in listed])
    errors = sum(len(each.errors) for each in found)
    say(
        f"{counted(len(found), 'file')}: {counted(errors, 'error')}, {counted(len(listed) - errors, 'warning')}"
    )
    if errors:
        raise typer.Exit(Exit.INVALID)


def _catalog(settings: Settings) -> list[Path]:
    if settings.catalog is None:
        raise ValidationFailed("name files or folders, or the catalog's folder with DUEWORK_CATALOG")
    return [settings.catalog]


async def _here(address: str, arguments: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    entry = load_catalog(settings).get(address)
    async with open_gate(settings, Metrics()) as gate, open_toolbox(settings, None) as toolbox:
        ask = None if gate is None else gate.hits
        return await try_tool(entry, arguments, toolbox, settings, ask=ask)


def _input(text: str) -> Mapping[str, Any]:
    """The object that was given. Raises ValidationFailed, NotFound for a file that is not there."""
    source = "--input"
    if text == str(STDIN) or text.startswith("@"):
        source = text.removeprefix("@")
        if source != str(STDIN) and not Path(source).is_file():
            raise NotFound(f"there is no file {source}")
        text = (
            typer.get_text_stream("stdin").read()
            if source == str(STDIN)
            else Path(source).read_text(encoding="utf-8")
        )
    values = [document.value for document in load_documents(text, source)]
    if len(values) != 1 or not isinstance(values[0], dict):
        raise ValidationFailed(f'{source} is one JSON object, like {{"url": "https://example.org"}}')
    found: dict[str, Any] = values[0]
    return found


def _limits(tool: Mapping[str, Any]) -> str:
    return ", ".join(_described(tool))


def _described(tool: Mapping[str, Any]) -> Iterator[str]:
    if rate := tool.get("rate"):
        yield f"{rate['limit']:g} per {rate['per']:g} s"
    if tool.get("concurrency"):
        yield f"{tool['concurrency']} at once"
    if breaker := tool.get("breaker"):
        yield f"breaker after {breaker['failures']:g}"
