"""The whole command line on one page: which function of which module each command is.

A command's module is imported when the command is asked for, so that `duework version` does not pay for the
web server. The functions are plain; Typer makes commands of them from their signatures and docstrings.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module, resources
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

Places = Mapping[str, "str | Places"]

TREE: Places = {
    "up": "servers:up",
    "demo": "demo:demo",
    "api": "servers:api",
    "scheduler": "servers:scheduler",
    "worker": "servers:worker",
    "db": {
        "migrate": "database:migrate",
        "status": "database:status",
        "downgrade": "database:downgrade",
        "sql": "database:sql",
        "check": "database:check",
    },
    "doctor": "doctor:doctor",
    "validate": "definitions:validate",
    "apply": "apply:apply",
    "convert": "definitions:convert",
    "schema": "definitions:schema",
    "task": {
        "list": "tasks:list_tasks",
        "get": "tasks:get",
        "run": "runs:start",
        "pause": "tasks:pause",
        "resume": "tasks:resume",
        "snooze": "tasks:snooze",
        "cancel": "tasks:cancel",
        "next": "schedules:upcoming",
        "backfill": "schedules:backfill",
        "history": "tasks:history",
    },
    "run": {
        "now": "runs:start",
        "list": "runs:list_runs",
        "get": "runs:get",
        "watch": "runs:watch",
        "cancel": "runs:cancel",
        "approve": "runs:approve",
        "release": "quarantine:release",
        "refuse": "quarantine:refuse",
        "retry": "runs:retry",
    },
    "quarantine": {"list": "quarantine:list_held"},
    "submit": "submit:submit",
    "event": {"send": "events:send", "list": "events:list_events"},
    "tool": {
        "list": "tools:list_tools",
        "get": "tools:get",
        "test": "tools:try_one",
        "lint": "tools:lint",
        "import-mcp": "mcp:import_mcp",
    },
    "agent": {
        "list": "agents:list_agents",
        "create": "agents:create",
        "token": "agents:token",
        "revoke": "agents:revoke",
    },
    "mcp": {"serve": "mcp_server:serve"},
    "audit": {"verify": "audit:verify"},
    "reflex": {
        "check": "gate:check",
        "kinds": "gate:kinds",
        "allow": "allowances:allow",
        "allowed": "allowances:allowed",
        "disallow": "allowances:disallow",
        "backtest": "backtests:backtest",
    },
    "version": "about:version",
}

GROUPS: Mapping[str, str] = {
    "": "A Postgres-native job scheduler: schedules, fenced leases, gated pipelines, history in SQL.",
    "db": "The database's schema.",
    "task": "Tasks: definitions with their schedules.",
    "run": "Run a task (`duework run NAME`), and look at runs.",
    "quarantine": "Runs that the gate has blocked, and that can be released.",
    "event": "Events, which start the tasks that wait for their topic.",
    "tool": "The catalog of tools that pipelines may call.",
    "agent": "Agents: who may call the API, and with which tokens.",
    "mcp": "duework for agents that speak the Model Context Protocol.",
    "audit": "The log of who did what.",
    "reflex": "The gate: personal data and prompt injection.",
}


class Group(TyperGroup):
    """Commands by name, each imported when it is asked for. An unknown name answers "did you mean"."""

    def __init__(self, name: str, places: Places) -> None:
        super().__init__(name=name, help=GROUPS[name], rich_markup_mode=None)
        self.places = places

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 — Typer's signature
        """The names, in the order of the page above."""
        return list(self.places)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 — Typer's signature
        """The command or the group of that name; None for an unknown one."""
        place = self.places.get(cmd_name)
        if place is None:
            return None
        return command(cmd_name, place) if isinstance(place, str) else group(cmd_name, place)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 — Typer's signature
        """The list of commands in the help; reads their first sentences without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(name, place)) for name, place in self.places.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Typer's resolution, with our words for a name that is not there."""
        name = args[0]
        if name not in self.places and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.places, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"there is no command {name!r}{hint}")
        return super().resolve_command(ctx, args)


class RunGroup(Group):
    """`duework run NAME` beside `duework run list`: what is no command is the name of a task."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `now` before the name of a task."""
        if args and args[0] not in {*self.places, "--help"}:
            args = ["now", *args]
        return super().parse_args(ctx, args)


def root() -> Group:
    """The command `duework` itself."""
    return Group("", TREE)


def group(name: str, places: Places) -> Group:
    """The group `duework <name>`."""
    return RunGroup(name, places) if name == "run" else Group(name, places)


def command(name: str, place: str) -> TyperCommand:
    """Import `module:function` and make a Typer command of it."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name)(function(place))
    made = get_command(app)
    assert isinstance(made, TyperCommand)
    return made


def function(place: str) -> Callable[..., Any]:
    """The function that `module:function` names."""
    module, name = place.split(":")
    found: Callable[..., Any] = getattr(import_module(f"ops.cli.{module}"), name)
    return found


def summary(name: str, place: str | Places) -> str:
    """The first sentence of a command's docstring, or what a group is about."""
    if not isinstance(place, str):
        return GROUPS[name]
    module, wanted = place.split(":")
    source = resources.files("ops.cli").joinpath(f"{module}.py").read_text(encoding="utf-8")
    found = (n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == wanted)
    return (ast.get_docstring(next(found)) or "").split("\n")[0].split(". ")[0].rstrip(".") + "."


def walk(places: Places = TREE, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every command as (words, place): (("db", "migrate"), "database:migrate")."""
    for name, place in places.items():
        if isinstance(place, str):
            yield (*before, name), place
        else:
            yield from walk(place, (*before, name))
