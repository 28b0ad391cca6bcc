"""One duework is another's gate: two databases, real processes, and what happens when the gate dies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from engine import db
from engine.db import Connection, Row
from engine.settings import Settings
from engine.store import agents
from tests import postgres
from tests.factories import make_task, queue, rows, step, until
from tests.integration.api.clients import SYSTEM, client, running
from tests.polling import poll_until
from tests.processes import Crew, crew_of, settings_for

OWN = """
[[pattern]]
name = "library_card.number"
kind = "library_card"
regex = '''\\bLC-\\d{6}\\b'''
match = ["card «LC-204417»"]

[[pattern]]
name = "phone.extension"
kind = "phone"
regex = '''\\bEXT-\\d{4}\\b'''
match = ["call «EXT-2044»"]
"""
"""What only the gate knows: a kind that is known here, and one that is not."""
ENDED = "SELECT * FROM duework.runs WHERE run_id = %s AND finished_at IS NOT NULL"
REFUSED = """SELECT * FROM duework.attempts
  WHERE run_id = %s AND error ->> 'code' = 'gate_unavailable' AND status = 'failed'"""
PATIENT = {"max_attempts": 100, "delay": "100ms", "backoff": "fixed"}
OPEN_FOR = timedelta(seconds=0.5)
HARMLESS = {"topic": "cards", "payload": {"text": "all is well"}}


@dataclass(slots=True)
class Gate:
    """The other duework's API: a process that is killed, and comes back at the same port."""

    settings: Settings
    logs: Path
    url: str = ""
    said: str = ""

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """While the block runs; then kill -9."""
        async with crew_of(self.settings, self.logs) as crew:
            api = crew.start("ops.cli", "api")
            line = await api.logged("api.started")
            self.url = f"http://{line['host']}:{line['port']}"
            self.settings = replace(self.settings, port=line["port"])
            yield
            await api.kill()
            self.said += api.text


@pytest.fixture
def other_url(server_url: str, template_database: str) -> Iterator[str]:
    """The database of the duework that is the gate."""
    with postgres.database(server_url, template_database) as url:
        yield url


@pytest.fixture
async def token(other_url: str) -> str:
    """Of an agent there that may ask the gate, and nothing else."""
    async with await db.connect(other_url, "test") as conn, conn.transaction():
        row = await agents.create(conn, "asker", ["reflex:use"])
        return await agents.add_token(conn, row["id"])


@pytest.fixture
def gate(other_url: str, tmp_path: Path) -> Gate:
    """Not yet up."""
    kinds = tmp_path / "kinds.toml"
    kinds.write_text(OWN, encoding="utf-8")
    settings = replace(settings_for(other_url), port=0, reflex_kinds=kinds)
    logs = tmp_path / "gate"
    logs.mkdir()
    return Gate(settings, logs)


async def echo(conn: Connection, name: str, pii: str) -> Row:
    """A task that echoes its parameter, and is tried until it comes to an end."""
    steps = [step("say", "core.echo", with_={"text": "${params.text}"})]
    return await make_task(conn, name, steps, reflex={"pii": pii}, retry=PATIENT, output="${steps.say}")


async def test_the_gate_of_one_duework_is_another(
    conn: Connection, crew: Crew, gate: Gate, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps pass, are redacted and are blocked as the other finds; while it is dead nothing passes, and then all."""
    monkeypatch.setenv("DUEWORK_SECRET_REFLEX_TOKEN", token)
    strict, gentle = await echo(conn, "strict", "block"), await echo(conn, "gentle", "redact")
    async with AsyncExitStack() as stack:
        async with gate.up():
            settings = replace(crew.settings, reflex_url=gate.url, reflex_open_for=OPEN_FOR)
            await crew.worker(reflex_url=gate.url, reflex_open_for=OPEN_FOR)
            app = await stack.enter_async_context(running(settings))
            api = await stack.enter_async_context(client(app, SYSTEM))
            await judged_by_both(conn, strict, gentle)
            card = {"topic": "cards", "payload": {"text": "card LC-204417"}}
            assert (await api.post("/events", json=card)).status_code == 400
            answer = await ready(api, True)
            assert answer["gate"] == {"source": "remote", "breaker": "closed"}
        waiting = [await queue(conn, gentle, params={"text": "call EXT-2044"}) for _ in range(3)]
        await refused_while_dead(conn, api, waiting)
        async with gate.up():
            for run_id in waiting:
                (run,) = await until(conn, ENDED, run_id)
                assert (run["status"], run["output"]) == ("succeeded", {"text": "call [PHONE]"})
            await ready(api, True)
            assert (await api.post("/events", json=HARMLESS)).status_code == 202
    assert token not in crew.text() + gate.said


async def judged_by_both(conn: Connection, strict: Row, gentle: Row) -> None:
    """What the gate alone knows, and what the worker knows itself."""

    async def run(task: Row, text: str) -> Row:
        run_id = await queue(conn, task, params={"text": text})
        return (await until(conn, ENDED, run_id))[0]

    passed = await run(strict, "all is well")
    assert (passed["status"], passed["output"]) == ("succeeded", {"text": "all is well"})
    redacted = await run(gentle, "call EXT-2044 or zoe.quick" + "@" + "fastmail.com")
    assert (redacted["status"], redacted["output"]) == ("succeeded", {"text": "call [PHONE] or [EMAIL]"})
    for task, text, kind in ((strict, "call EXT-2044", "phone"), (gentle, "card LC-204417", "library_card")):
        blocked = await run(task, text)
        assert blocked["status"] == "blocked"
        assert kind in blocked["error"]["message"]


async def refused_while_dead(conn: Connection, api: httpx2.AsyncClient, waiting: list[UUID]) -> None:
    """Runs are tried again and come to nothing, callers are told to come again, /ready says so."""
    for run_id in waiting:
        await until(conn, REFUSED, run_id)
    answer = await api.post("/events", json=HARMLESS)
    assert (answer.status_code, answer.json()["code"]) == (503, "gate_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    await ready(api, False)
    ended = "SELECT FROM duework.runs WHERE run_id = ANY(%s) AND finished_at IS NOT NULL"
    stored = "SELECT FROM duework.step_run WHERE run_id = ANY(%s) AND (input, output) IS DISTINCT FROM (NULL, NULL)"
    assert [await rows(conn, ended, waiting), await rows(conn, stored, waiting)] == [[], []]


async def ready(api: httpx2.AsyncClient, works: bool) -> dict[str, Any]:
    """What /ready answers once it says so of the gate: what it has asked counts for some seconds."""

    async def said() -> dict[str, Any] | None:
        answer: dict[str, Any] = (await api.get("/ready")).json()
        return answer if answer["checks"]["reflex_layer"] is works else None

    found: dict[str, Any] | None = await poll_until(said)
    assert found is not None
    return found
