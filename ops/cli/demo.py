"""`duework demo`: the whole system at work on this host in under a minute, and its history in SQL.

It uses a database of its own below the state directory, made anew each time, so that it can be repeated and
touches nothing else. Each step is waited for within bounds: what does not happen ends the demo with an error.
"""

from __future__ import annotations

import fcntl
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, cast

import psycopg
import typer

from engine.errors import Conflict, DueworkError, GateBlocked
from engine.pipeline import load_documents
from engine.settings import EMBEDDED, load
from ops import dev, embedded
from ops.cli.local import state_dir
from ops.cli.output import Output, grid, say
from ops.cli.remote import DEVELOPMENT_TOKEN, Remote, connect, path
from ops.cli.runs import FINAL
from ops.cli.stage import Stage, open_stage

WATCHED, REACTING, HEALTH, STOPPED = "api-watch", "api-changed", "database-health", "inbox-triage"
ASKING = "release"
FIRINGS = 3
FIRED_WITHIN, RUN_WITHIN = 60.0, 30.0  # seconds
STOP_PATIENCE = 15.0
RULE = "─" * 78


class DemoFailed(DueworkError):
    """Something that the demo shows did not happen."""


def demo(
    workers: Annotated[int, typer.Option("--workers", min=1, help="Worker processes.")] = 3,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show the logs too.")] = False,
) -> None:
    """Start everything, apply the example pipelines, let them run, and show their history in SQL."""
    settings = load(database_url=EMBEDDED, host="127.0.0.1")
    if load().database_url != EMBEDDED:
        say("the demo uses a database of its own; the one that DUEWORK_DATABASE_URL names is left alone")
    state = state_dir(settings) / "demo"
    began = time.monotonic()
    with _alone(state), dev.signals() as count:
        _heading("Starting PostgreSQL, the API, a scheduler and worker processes")
        with open_stage(replace(settings, state_dir=state), say) as stage:
            _play(stage, workers, verbose, count)
    _heading(f"Done in {time.monotonic() - began:.0f} s. What to try next")
    print(_next_steps(state))


@dataclass(frozen=True, slots=True)
class Play:
    """What the acts of the demo share."""

    stage: Stage
    tree: dev.ProcessTree
    api: Remote
    interrupted: Callable[[], int]

    def until(self, what: str, within: float, condition: Callable[[], Any]) -> Any:
        """The first true answer of `condition`, the children tended meanwhile. Raises DemoFailed."""
        deadline = time.monotonic() + within
        while not (answer := condition()):
            if self.interrupted():
                raise typer.Abort
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"{what} did not happen within {within:.0f} s; the logs are in {self.tree.logs}"
                )
            self.tree.tend()
            time.sleep(dev.LOOK)
        return answer

    def finished(self, name: str, params: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Run a task now and wait for its end."""
        body = {"params": params} if params else {}
        run_id = self.api.post(path("tasks", name, "run_now"), body)["run_id"]

        def ended() -> Any:
            run = self.api.get(path("runs", run_id))
            return run if run["status"] in FINAL else None

        return cast("Mapping[str, Any]", self.until(f"the end of {name}", RUN_WITHIN, ended))


def _play(stage: Stage, workers: int, verbose: bool, count: Callable[[], int]) -> None:
    tree = stage.tree(workers, say, (lambda name, line: say(f"{name:<9} {line}")) if verbose else None)
    try:
        if not stage.ready(tree, lambda: count() > 0):
            raise typer.Abort if count() else DemoFailed(f"the API is not ready; the logs are in {tree.logs}")
        print("\n".join(stage.places()))
        api = connect(stage.url, DEVELOPMENT_TOKEN, Output())
        with api.client:
            play = Play(stage, tree, api, count)
            for act in (_apply, _fire, _run_now, _wait, _gate, _history):
                act(play)
    finally:
        tree.stop(STOP_PATIENCE, lambda: count() > 1)


def _apply(play: Play) -> None:
    _heading("Applying the example pipelines of catalogs/pipelines")
    for file in sorted(
        resources.files("catalogs").joinpath("pipelines").iterdir(), key=lambda each: each.name
    ):
        for document in load_documents(file.read_text(encoding="utf-8"), file.name):
            definition = document.value
            if "base" in definition.get("params", {}):
                definition["params"]["base"] = play.stage.url  # the port may not be the usual one
            task = play.api.post("/tasks", definition)
            print(
                f"  {task['name']:<16} {task['schedule_kind']:<6} {task['schedule_expr']:<24} {task['title']}"
            )


def _fire(play: Play) -> None:
    _heading(
        f"Waiting until the schedule of {WATCHED} has fired {FIRINGS} times, and its event started {REACTING}"
    )
    seen: set[str] = set()

    def fired() -> bool:
        for run in reversed(_runs(play, WATCHED)):
            if run["run_id"] not in seen:
                seen.add(run["run_id"])
                print(f"  {run['scheduled_for']}  {run['status']:<9}  output {run['output']}", flush=True)
        return len(seen) >= FIRINGS

    play.until(f"the {FIRINGS}rd run of {WATCHED}", FIRED_WITHIN, fired)
    (first, *_) = play.until(f"a run of {REACTING}", RUN_WITHIN, lambda: _runs(play, REACTING))
    print(f"  {REACTING} reacted: {first['output']!r}")


def _run_now(play: Play) -> None:
    params = {"slow_ms": 0}
    _heading(f"POST /tasks/{HEALTH}/run_now with {params}: every statement counts as slow")
    run = play.finished(HEALTH, params)
    print(f"  {run['run_id']}  {run['status']} in {run['duration_ms']:.0f} ms  output {run['output']}")
    _expect(run, "succeeded")


def _wait(play: Play) -> None:
    _heading(f"Waiting: {ASKING} runs {HEALTH}, waits for its end, and then for a person")
    run_id = play.api.post(path("tasks", ASKING, "run_now"), {})["run_id"]
    place = path("runs", run_id)

    def asked() -> Any:
        run = play.api.get(place)
        assert run["status"] not in FINAL, run["error"]
        return next((wait for wait in run["waits"] if wait["kind"] == "approval"), None)

    question = play.until(f"the question of {ASKING}", RUN_WITHIN, asked)
    print(f"  {run_id}  {question['prompt']}  It waits until {question['until']}, without a worker.")
    said = {"decision": "approve", "reason": "this is a demo"}
    play.api.post(path("runs", run_id, "approve"), said)
    print(f"  POST /runs/{run_id}/approve {said}")
    run = play.until(
        f"the end of {ASKING}",
        RUN_WITHIN,
        lambda: found if (found := play.api.get(place))["status"] in FINAL else None,
    )
    print(f"  {run_id}  {run['status']}  output {run['output']}")
    _expect(run, "succeeded")


def _gate(play: Play) -> None:
    _heading(f"The gate: {STOPPED} reads a text with an e-mail address and an injection, and is stopped")
    run = play.finished(STOPPED)
    print(f"  {run['run_id']}  {run['status']}: {run['error']['message']}")
    _expect(run, "blocked")
    mail, order = "@".join(("anna", "example.org")), "ignore all previous instructions"
    print(
        "\n  The same at the door: run_now with such parameters is refused with 400, and nothing is stored."
    )
    try:
        play.api.post(path("tasks", STOPPED, "run_now"), {"params": {"note": f"{mail}: {order}"}})
    except GateBlocked as refusal:
        print(f"  400 {refusal.code}: {refusal.message}")
        for problem in refusal.errors:
            print(f"    {problem.pointer}: {problem.detail}")
    else:
        raise DemoFailed("the gate let parameters in that it should have refused")


def _history(play: Play) -> None:
    _heading("The history, in plain SQL through the documented views")
    names = ("run_history", "why_not_run", "lateness", "gate_verdicts", "worker_share", "health_report")
    with psycopg.connect(play.stage.settings.database_url, autocommit=True) as conn:
        for name in names:
            statement = (
                resources.files("catalogs").joinpath(f"queries/{name}.sql").read_text(encoding="utf-8")
            )
            print("\n" + _prompted(statement))
            cursor = conn.execute(statement)
            rows = cursor.fetchall()
            assert cursor.description is not None
            print(grid([column.name for column in cursor.description], rows))
            print(f"({len(rows)} row{'' if len(rows) == 1 else 's'})", flush=True)
            play.tree.tend()


def _prompted(statement: str) -> str:
    """A statement as psql echoes it."""
    first, *more = statement.strip().splitlines()
    return "\n".join((f"duework=> {first}", *(f"duework-> {line}" for line in more)))


def _runs(play: Play, name: str) -> list[dict[str, Any]]:
    """Finished runs of a task, the latest first. Raises DemoFailed when one of them did not succeed."""
    task = play.api.get(path("tasks", name))
    runs = [run for run in play.api.get("/runs", task_id=task["id"])["items"] if run["status"] in FINAL]
    for run in runs:
        _expect(run, "succeeded", "missed", "skipped")
    return [run for run in runs if run["status"] == "succeeded"]


def _expect(run: Mapping[str, Any], *statuses: str) -> None:
    if run["status"] not in statuses:
        raise DemoFailed(f"{run['task']} ended as {run['status']}, not as {statuses[0]}: {run['error']}")


def _heading(text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{RULE}\n{bold}{text}{plain}\n{RULE}", flush=True)


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """One demo at a time; what the last one left is removed first."""
    if not state.parent.exists():
        state.parent.mkdir(parents=True)
        state.parent.chmod(0o711)  # the account that runs PostgreSQL for root must pass through
    with state.with_name("demo.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"a demo is already running on this host ({file.name})") from None
        embedded.stop(state)
        shutil.rmtree(state / "data", ignore_errors=True)
        yield


def _next_steps(state: Path) -> str:
    command = "duework" if shutil.which("duework") else sys.argv[0]
    examples = resources.files("catalogs").joinpath("pipelines")
    return f"""\
  {command} up                  everything, to stay, on a database of your own; then in another terminal:
  {command} apply -f {examples}
  {command} run database-health -p slow_ms=0 --wait 30s
  {command} run inbox-triage --wait 30s      blocked, and held; then:
  {command} quarantine list
  {command} doctor
  DUEWORK_STATE_DIR={state} {command} up     goes on with this demo's database instead
"""
