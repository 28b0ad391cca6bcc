"""A blocked run that is released while real workers, tools and kills are about."""

from __future__ import annotations

import json
import threading
from typing import Any

from engine.db import Connection
from tests.factories import make_task, queue, rows, step, until
from tests.polling import poll_until
from tests.processes import Crew
from tests.quarantine import SSN, release
from tests.web import web_server


class Answers(dict[str, Any]):
    """What the server answers by path, once it may."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.may = threading.Event()
        self.may.set()

    def __getitem__(self, path: str) -> Any:
        self.may.wait(120)
        return super().__getitem__(path)


async def test_a_release_outlives_its_worker(conn: Connection, crew: Crew) -> None:
    """Killed while it asks the tool again, a worker leaves the exemption to the next; each call has the same key."""
    body = json.dumps({"note": f"call {SSN} back"}).encode()
    with web_server() as web:
        answers = web.answers = Answers(
            {"/first": ("application/json", b"{}"), "/note": ("application/json", body)}
        )
        steps = [
            step(name, "http.post", with_={"url": f"{web.url}/{name}", "json": {}})
            for name in ("first", "note")
        ]
        run_id = await queue(conn, await make_task(conn, steps=steps, output="${steps.note.status}"))
        first = await crew.worker(http_allow="127.0.0.1")
        ended = "SELECT FROM duework.runs WHERE run_id = %s AND status = %s"
        await until(conn, ended, run_id, "blocked")

        answers.may.clear()
        await release(conn, run_id)
        await poll_until(lambda: [one.path for one in web.asked].count("/note") == 2, 120)
        await first.kill()
        answers.may.set()
        await crew.scheduler()
        await crew.worker(http_allow="127.0.0.1")
        await until(conn, ended, run_id, "succeeded")

        assert [one.path for one in web.asked] == ["/first", "/note", "/note", "/note"]
        keys = [one.headers["idempotency-key"] for one in web.asked]
        assert keys == [[f"{run_id}:first"]] + [[f"{run_id}:note"]] * 3
    attempts = await rows(conn, "SELECT attempt, status, final FROM duework.attempts ORDER BY attempt")
    assert [tuple(row.values()) for row in attempts] == [
        (1, "blocked", False), (2, "expired", False), (3, "succeeded", True)]  # fmt: skip
    assert SSN not in crew.text()
