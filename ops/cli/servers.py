"""`duework up`, `api`, `scheduler`, `worker`: the processes that stay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from engine import reflex, telemetry
from engine.reflex.proof import prepare
from engine.settings import Settings, load
from ops import dev
from ops.cli.exits import Exit
from ops.cli.local import loaded
from ops.cli.output import say
from ops.cli.stage import Stage, open_stage

Host = Annotated[str | None, typer.Option("--host", help="Address to bind.")]
Port = Annotated[int | None, typer.Option("--port", min=0, max=65_535, help="Port to bind.")]
Parent = Annotated[int | None, typer.Option("--parent", hidden=True, help="End when this process does.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show the logs here too.")]
PULSE = 2.0  # seconds between two looks at the database
DRAIN_SLACK = 10.0  # seconds that a process gets beyond its own drain


def api(host: Host = None, port: Port = None, parent: Parent = None) -> None:
    """Serve the HTTP API until SIGTERM."""
    settings = _begin(parent, host=host, port=port)
    from api.main import serve

    asyncio.run(serve(settings))


def scheduler(parent: Parent = None) -> None:
    """Materialise what schedules name until SIGTERM. Several at once are safe."""
    settings = _begin(parent)
    from scheduler.main import serve

    asyncio.run(serve(settings))


def worker(
    processes: Annotated[int | None, typer.Option("--processes", min=1, help="Worker processes.")] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", min=1, help="Runs that each executes at once.")
    ] = None,
    labels: Annotated[str | None, typer.Option("--labels", help="name=value, separated by commas.")] = None,
    parent: Parent = None,
) -> None:
    """Execute runs until SIGTERM, then finish those under way or give them back."""
    settings = _begin(parent, processes=processes, concurrency=concurrency, labels=labels)
    from workers.supervisor import supervise

    raise typer.Exit(supervise(settings))


def up(
    workers: Annotated[int, typer.Option("--workers", min=1, help="Worker processes.")] = 3,
    port: Port = None,
    verbose: Verbose = False,
) -> None:
    """Run everything on this host: database, API, scheduler, workers.

    The database is the embedded one unless DUEWORK_DATABASE_URL names another. Ctrl-C finishes what is under
    way and stops; a second one stops at once.
    """
    settings = load(port=port)
    prepare(settings)
    with dev.signals() as count, open_stage(settings, say) as stage:
        tree = stage.tree(workers, say, _echo if verbose else None)
        try:
            _welcome(tree, stage, count)
            _tend(tree, stage, count)
            say("stopping; once more to stop at once")
        finally:
            patience = stage.settings.drain_timeout.total_seconds() + DRAIN_SLACK
            ended = tree.stop(patience, lambda: count() > 1)
    raise typer.Exit(Exit.OK if ended else Exit.FAILED)


def _begin(parent: int | None, **flags: Any) -> Settings:
    """What every serving process does first: settings, logs, a database to talk to."""
    if parent is not None:
        dev.end_with(parent)
    settings = loaded(**flags)
    prepare(settings)
    telemetry.configure(settings, reflex.mask)
    telemetry.capture()
    return settings


def _welcome(tree: dev.ProcessTree, stage: Stage, count: Any) -> None:
    if stage.ready(tree, lambda: count() > 0):
        for line in stage.places():
            print(line, flush=True)
    elif not count():
        say(f"the API at {stage.url} is not ready yet; the logs are in {tree.logs}")


def _tend(tree: dev.ProcessTree, stage: Stage, count: Callable[[], int]) -> None:
    due = 0.0
    while not count():
        if time.monotonic() >= due:
            stage.revive(say)
            due = time.monotonic() + PULSE
        tree.tend()
        time.sleep(dev.LOOK)


def _echo(name: str, line: str) -> None:
    say(f"{name:<9} {line}")
