"""What the gate refuses is in no table, no log line, no notification and no answer, whatever the way it came.

One stack of processes; through every way that the documentation names go canaries of every kind, each by itself and
all together, under `block` and under `redact`. Then everything is searched. Under `flag` and `allow` they go once
more, and may be in the payloads, and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import psycopg
import pytest

from engine.db import Connection
from ops.cli.exits import Exit
from ops.cli.main import run as duework
from tests import postgres
from tests.factories import document, make_task, queue, rows, step, until
from tests.integration.api.clients import SYSTEM
from tests.integration.diode import outlets, pipelines, requests, statements
from tests.integration.diode.canaries import Canary, canaries, documented, of, one_of_each, together
from tests.mcp_server import http_server
from tests.processes import Crew
from tests.web import Web, web_server

BLOCK = {"pii": "block", "injection": "block"}
REDACT = {"pii": "redact", "injection": "block"}
HELD = "SELECT run_id FROM duework.held_run WHERE decision IS NULL ORDER BY held_at, run_id"
ALONE = ("template", "tool-output")
"""The ways that each canary goes by itself: what goes in, and what comes out."""


@dataclass(slots=True)
class Stack:
    """The processes, and all that has come of them."""

    conn: Connection
    crew: Crew
    web: Web
    api: httpx2.AsyncClient
    answers: list[str] = field(default_factory=list)
    runs: dict[UUID, tuple[str, Canary]] = field(default_factory=dict)

    async def define(self, policy: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """A task for each way."""
        made = {}
        for way, name, steps, members in pipelines.documents(self.web.url, policy, prefix):
            made[way] = await make_task(self.conn, name, steps, **members)
        return made

    async def send(self, task: Any, way: str, canary: Canary) -> None:
        """One run with the canary in disguise, and in clear on the web."""
        number = len(self.runs)
        pipelines.put_on(self.web, number, canary)
        run_id = await queue(self.conn, task, params={"x": canary.veiled, "n": number})
        self.runs[run_id] = (way, canary)

    async def ended(self) -> dict[UUID, str]:
        """How each run ended, once all have."""
        done = "SELECT FROM duework.task_run WHERE final AND run_id = ANY(%s) HAVING count(*) = %s"
        await until(self.conn, done, list(self.runs), len(self.runs))
        found = "SELECT run_id, status FROM duework.runs WHERE run_id = ANY(%s)"
        return {row["run_id"]: row["status"] for row in await rows(self.conn, found, list(self.runs))}

    async def ask(self, way: str, policy: Mapping[str, Any], given: Sequence[Canary], each: int) -> None:
        """Send the requests of one way, `each` canaries per request, taking turns."""
        turns = _in_turns(given)
        template = [list(requests.WAYS[way](canary.text, policy)) for canary in given]
        for place in range(len(template[0])):
            for canary in islice(turns, each):
                calls = template[given.index(canary)]
                self.answers.append(await requests.ask(self.api, calls[place]))


def _in_turns(given: Sequence[Canary]) -> Iterator[Canary]:
    while True:
        yield from given


@pytest.fixture
async def stack(
    conn: Connection, crew: Crew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stack]:
    """An API, a scheduler and a worker that asks the API's gate as well; a web server, an MCP server, and tools."""
    folder = pipelines.catalog(tmp_path / "catalog")
    with web_server() as web, http_server(tmp_path) as served:
        line = ["tool", "import-mcp", "far", "--file", str(folder / "far.yaml"), "--url", served.url]
        assert await asyncio.to_thread(duework, [*line, "--allow-host", "127.0.0.1"]) == 0
        given: dict[str, Any] = {"catalog": folder, "command_tools": True, "http_allow": "127.0.0.1"}
        given |= {"lease_seconds": timedelta(minutes=2), "poll_interval": timedelta(seconds=1)}
        url = await crew.api(**given)
        await crew.scheduler(**given)
        crew.secrets["REFLEX_TOKEN"] = "system-agent"
        await crew.worker(**given, reflex_url=url, reflex_timeout=timedelta(minutes=1))
        async with httpx2.AsyncClient(base_url=url, headers=SYSTEM, timeout=120) as api:
            yield Stack(conn, crew, web, api)


def test_every_way_is_documented_and_tried() -> None:
    """The tables of the page on the data diode and the ways of this test are the same."""
    assert documented("Into a run") == {*pipelines.ways(""), "probe"}
    assert documented("Into the API") == set(requests.WAYS)
    assert documented("Into SQL") == set(statements.WAYS)


async def test_canaries_come_out_nowhere(
    stack: Stack, database_url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """After every way, under block and redact: nothing stored, logged, notified or answered holds a canary; under flag
    and allow nothing but payloads."""
    capsys.readouterr()
    async with outlets.ears(database_url) as heard:
        await _prepare(stack)
        await _through_runs(stack)
        await _through_requests(stack)
        await _through_statements(stack)
        await _through_live_runs(stack)
        await _through_commands(tmp_path)
        ended = await stack.ended()
        await _look_at_everything(stack)
    alone = {run for run, (way, canary) in stack.runs.items() if way in ALONE and canary.kind}
    assert {ended[run] for run in alone} == {"blocked"}, _not_blocked(stack, ended)
    assert heard
    places = {**await outlets.stored(stack.conn), **outlets.logged(stack.crew), "server": _server_log()}
    places |= {"notified": "\0".join(heard), "commands": "".join(capsys.readouterr())}
    places["answered"] = outlets.as_text(stack.answers)
    assert "[EMAIL]" in places["answered"]
    assert "[EMAIL]" in places["commands"]
    assert outlets.leaks(canaries(), places) == []
    await _where_a_policy_permits(stack)
    places = await outlets.stored(stack.conn, without=outlets.PAYLOADS)
    assert outlets.leaks(canaries(), {**places, **outlets.logged(stack.crew)}) == []
    assert outlets.leaks(canaries(), await outlets.stored(stack.conn)) != []


async def _prepare(stack: Stack) -> None:
    """The tasks that others start, and one to be asked about."""
    seen = [step("a", with_={"seen": "${event}", "given": "${params}"})]
    await make_task(stack.conn, "listening", seen, schedule={"event": {"topic": "canary.*"}})
    await make_task(stack.conn, "sink", seen)
    await make_task(stack.conn, "sink-redact", seen, reflex=REDACT)
    for number, policy in enumerate((BLOCK, REDACT)):
        pipelines.put_on(stack.web, -number - 1, together(of("pii", canaries())))
        probe = {"uses": "http.get", "with": {"url": f"{stack.web.url}/json/{-number - 1}"}}
        schedule = {"condition": {"every": "15s", "probe": probe, "when": "text != 'x'"}}
        await make_task(stack.conn, f"probe-{number}", seen, schedule=schedule, reflex=policy)
    await make_task(stack.conn, requests.TASK, seen, schedule={"every": "1h"})
    await stack.api.post("/agents", json={"name": "known", "scopes": []})


async def _through_runs(stack: Stack) -> None:
    few = _in_turns(one_of_each())
    blocking = await stack.define(BLOCK, "block")
    for way in ALONE:
        for canary in canaries():
            await stack.send(blocking[way], way, canary)
    for way, task in blocking.items():
        for canary in [*islice(few, 3), together(canaries())]:
            await stack.send(task, way, canary)
    redacting = await stack.define(REDACT, "redact")
    for way, task in redacting.items():
        await stack.send(task, way, together(of("pii", canaries())))


async def _through_requests(stack: Stack) -> None:
    both = [together(canaries()), together(of("pii", canaries()))]
    for way in requests.WAYS:
        await stack.ask(way, BLOCK, one_of_each(), 3)
        await stack.ask(way, REDACT, both, 2)


async def _through_statements(stack: Stack) -> None:
    """As an application asks by SQL; what the database refuses at once is told to the application only."""
    for canary in [*one_of_each(), together(canaries()), together(of("pii", canaries()))]:
        for way in statements.WAYS.values():
            for statement, values in way(canary.text):
                with suppress(psycopg.Error):
                    await stack.conn.execute(statement, values)
    await until(stack.conn, "SELECT FROM duework.request HAVING count(*) = 0")


async def _through_live_runs(stack: Stack) -> None:
    """In the reasons for which somebody approves what a run waits for, and cancels it."""
    task = await make_task(stack.conn, "waiting", [step("a", "core.approval", with_={"prompt": "Go on?"})])
    run_id = await queue(stack.conn, task)
    await until(stack.conn, "SELECT FROM duework.waits WHERE run_id = %s", run_id)
    for canary in [*islice(_in_turns(one_of_each()), 8), together(canaries())]:
        reason = {"reason": canary.text[:1000]}
        refused = {"json": reason | {"decision": "refuse", "step": canary.text}}
        stack.answers.append(await requests.ask(stack.api, ("POST", f"/runs/{run_id}/approve", refused)))
        other = await queue(stack.conn, task)
        stack.answers.append(
            await requests.ask(stack.api, ("POST", f"/runs/{other}/cancel", {"json": reason}))
        )
    held = await until(stack.conn, HELD)
    for row, canary in zip(held, of("pii", one_of_each()), strict=False):
        asked = ("POST", f"/runs/{row['run_id']}/refuse", {"json": {"reason": canary.text[:1000]}})
        stack.answers.append(await requests.ask(stack.api, asked))
    for canary in of("injection", one_of_each()):
        asked = ("POST", f"/runs/{held[-1]['run_id']}/release", {"json": {"reason": canary.text[:1000]}})
        stack.answers.append(await requests.ask(stack.api, asked))


async def _through_commands(tmp_path: Path) -> None:
    """In a file that is checked, and in arguments."""
    path = tmp_path / "task.json"
    for canary in one_of_each():
        path.write_text(json.dumps(document() | {canary.text: 1}), encoding="utf-8")
        assert await asyncio.to_thread(duework, ["validate", str(path)]) == Exit.INVALID
        assert await asyncio.to_thread(duework, ["task", canary.text]) == Exit.USAGE


async def _where_a_policy_permits(stack: Stack) -> None:
    """Everything once more where it may pass: by a policy, and by the word of a person."""
    reason = {"reason": together(of("pii", canaries())).text[:1000]}
    for row in (await rows(stack.conn, HELD))[:5]:
        answer = await stack.api.post(f"/runs/{row['run_id']}/release", json=reason)
        assert answer.status_code == 202, answer.text
    for policy in ("flag", "allow"):
        tasks = await stack.define({"pii": policy, "injection": policy}, policy)
        for way, task in tasks.items():
            await stack.send(task, way, together(canaries()))
    await stack.ended()


def _server_log() -> str:
    """What the session's PostgreSQL server has written; "" for one that is not ours."""
    log = Path(os.environ[postgres.SESSION]) / "server.log"
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""


async def _look_at_everything(stack: Stack) -> None:
    """Every listing that the API has."""
    pages = [f"/{name}?limit=200" for name in ("tasks", "runs", "events", "audit", "verdicts")]
    pages += ["/quarantine?status=all&limit=200", "/reflex/allowances?limit=200"]
    for path in (*pages, "/events/topics", "/agents", "/queue", "/workers", "/metrics"):
        stack.answers.append(await requests.ask(stack.api, ("GET", path, {})))
    for run_id in stack.runs:
        stack.answers.append(await requests.ask(stack.api, ("GET", f"/runs/{run_id}", {})))


def _not_blocked(stack: Stack, ended: Mapping[UUID, str]) -> list[str]:
    return [
        f"{way} {canary.rule}: {ended[run]}"
        for run, (way, canary) in stack.runs.items()
        if way in ALONE and canary.kind and ended[run] != "blocked"
    ]
