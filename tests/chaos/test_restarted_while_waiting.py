"""Runs that wait outlive everything: every process and PostgreSQL are killed, started again, and the runs go on."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx2

import migrations
from engine import db
from engine.db import Connection, Row
from tests.chaos.test_killed_database import crash, start, state_dir
from tests.factories import make_task, queue, rows, step, until
from tests.integration.cli.conftest import admin_token, end, launched, processes_of, until_ready

__all__ = ["state_dir"]  # a fixture

AFTER = step("after", with_={"seen": "${steps.wait}"})
PAID = {"topic": "order.paid", "filter": "payload.id == given.id", "given": {"id": 7}}
TASKS: dict[str, list[dict[str, Any]]] = {
    "for-an-event": [step("before"), step("wait", "core.wait_event", with_=PAID), AFTER],
    "for-a-person": [step("wait", "core.approval", with_={"prompt": "Ship it?"}), AFTER],
    "for-a-while": [step("wait", "core.sleep", with_={"duration": "8s"}), AFTER],
    "child": [step("wait", "core.wait_event", with_={"topic": "go"}), AFTER],
    "for-a-child": [step("wait", "task.run_now", with_={"task": "child", "wait": True}), AFTER],
    "for-several": [
        step("event", "core.wait_event", with_={"topic": "go"}, needs=[]),
        step(
            "person",
            "core.approval",
            with_={"prompt": "${item}?"},
            foreach="${params.names}",
            max_parallel=2,
            needs=[],
        ),
        step("after", with_={"seen": "${steps.person}"}, needs=["event", "person"]),
    ],
}
ASKED = tuple(name for name in TASKS if name != "child")
PARKED = """SELECT FROM duework.waits v JOIN duework.due_work d ON d.id = v.run_id
  WHERE d.locked_until IS NULL AND d.state IS NOT NULL AND v.kind <> 'sleep' HAVING count(*) = 7"""
ENDED = "SELECT FROM duework.task_run WHERE final HAVING count(*) = %s"


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9 of `duework up` and of everything that it started."""
    for pid in (process.pid, *processes_of(process.pid)):
        os.kill(pid, signal.SIGKILL)
    process.communicate()


async def outputs(conn: Connection) -> dict[str, Row]:
    """What each run came to, by its task."""
    found = await rows(conn, "SELECT task, status, attempt, output, error FROM duework.runs")
    return {row["task"]: row for row in found}


async def answer(url: str, token: str, runs: dict[str, Any]) -> None:
    """Everything that the runs wait for, over the API that has come back."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, trust_env=False) as api:
        for topic, number in (("order.paid", 6), ("order.paid", 7), ("go", 0)):
            sent = await api.post("/events", json={"topic": topic, "payload": {"id": number}})
            assert sent.status_code == 202, sent.text
        yes = {"decision": "approve", "reason": "fine"}
        several = [{"step": "person", "item": item} for item in (1, 0)]
        for task, place in (("for-a-person", {}), *(("for-several", place) for place in several)):
            decided = await api.post(f"/runs/{runs[task]}/approve", json=yes | place)
            assert decided.status_code == 202, decided.text


async def test_everything_is_restarted_while_runs_wait(state_dir: Path, tmp_path: Path) -> None:
    """For an event, a person, a time, a child, and several at once: all go on, in their first attempt."""
    server = start(state_dir)
    migrations.upgrade(server.url)
    token = await admin_token(server.url)
    process, url = launched(server.url, tmp_path, "--workers", "1")
    try:
        await until_ready(process, url)
        async with await db.connect(server.url, "test") as conn:
            params = {"names": ["ada", "bob"]}
            made = {name: await make_task(conn, name, steps, params=params, output="${steps.after}")
                    for name, steps in TASKS.items()}  # fmt: skip
            runs = {name: await queue(conn, made[name]) for name in ASKED}
            await until(conn, PARKED)
        kill(process)
        await crash(state_dir, server)
        server = start(state_dir)
        process, url = launched(server.url, tmp_path, "--workers", "1")
        await until_ready(process, url)
        await answer(url, token, runs)
        async with await db.connect(server.url, "test") as conn:
            await until(conn, ENDED, len(TASKS))
            found = await outputs(conn)
            left = await rows(conn, "SELECT FROM duework.wait UNION ALL SELECT FROM duework.checkpoint")
            twice = await rows(
                conn, "SELECT run_id, step, item FROM duework.steps GROUP BY 1, 2, 3 HAVING count(*) > 1"
            )
    finally:
        end(process)
    assert {(row["status"], row["attempt"]) for row in found.values()} == {("succeeded", 1)}, found
    assert found["for-an-event"]["output"]["seen"]["event"]["payload"] == {"id": 7}
    assert found["for-a-person"]["output"]["seen"]["reason"] == "fine"
    assert found["for-a-while"]["output"]["seen"] == {"slept_seconds": 8}
    assert found["for-a-child"]["output"]["seen"]["output"]["seen"]["event"]["topic"] == "go"
    assert [one["decision"] for one in found["for-several"]["output"]["seen"]] == ["approve", "approve"]
    assert (left, twice) == ([], [])
