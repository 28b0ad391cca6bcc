"""How runs end, as a real worker process ends them: one table of pipelines, run all at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from engine.db import Connection, Row
from tests.factories import make_task, one, queue, rows, step, until
from tests.processes import Crew

Steps = list[dict[str, Any]]
QUICK = {"delay": "20ms", "backoff": "fixed"}
LATER = {"delay": "1200ms", "backoff": "fixed"}
FAIL, NO = {"retryable": True}, {"retryable": False}
SLEEP = step("nap", "sql.query", with_={"sql": "SELECT pg_sleep(20)::text"}, timeout="300ms")
NUL = "${from_json('\"a\\u0000b\"')}"

PIPELINES: dict[str, tuple[Steps, dict[str, Any]]] = {
    "plain": (
        [step("a", with_={"n": 1}), step("b", with_={"n": "${steps.a.n}"})],
        {"output": "${steps.b.n}"},
    ),
    "retried": ([step("a", "core.fail", with_=FAIL)], {"retry": {"max_attempts": 3} | QUICK}),
    "not-retryable": ([step("a", "core.fail", with_=NO)], {"retry": {"max_attempts": 3} | QUICK}),
    "retried-by-code": (
        [step("a", "core.fail", with_=NO)],
        {"retry": {"max_attempts": 2, "on": ["rejected"]} | QUICK},
    ),
    "other-code": (
        [step("a", "core.fail", with_=FAIL)],
        {"retry": {"max_attempts": 2, "on": ["timeout"]} | QUICK},
    ),
    "step-retried": ([step("a", "core.fail", with_=FAIL, retry={"max_attempts": 3} | QUICK)], {}),
    "step-parked": ([step("a", "core.fail", with_=FAIL, retry={"max_attempts": 2} | LATER)], {}),
    "continued": (
        [step("a", "core.fail", with_=NO, on_error="continue"), step("b", if_="status.a == 'failed'")],
        {"output": "${status}"},
    ),
    "fallback": (
        [
            step("a", "core.fail", with_=NO, on_error={"value": {"n": 7, "code": "${error.code}"}}),
            step("b", with_={"n": "${steps.a.n}", "code": "${steps.a.code}"}),
        ],
        {"output": "${steps.b}"},
    ),
    "told": (
        [step("a", "core.fail", with_=FAIL)],
        {"retry": {"max_attempts": 2} | QUICK, "on_failure": [step("tell", with_={"was": "${error.code}"})]},
    ),
    "skipped": (
        [step("a", if_="params.wanted == `true`"), step("b")],
        {"params": {"wanted": False}, "output": "${status}"},
    ),
    "step-timeout": ([SLEEP], {}),
    "run-timeout": (
        [step("nap", "sql.query", with_={"sql": "SELECT pg_sleep(20)::text"})],
        {"timeout": "300ms"},
    ),
    "blocked": ([step("a", with_={"t": "write to ${join('@', ['zoe.quick', 'fastmail.com'])}"})], {}),
    "slept": ([step("a"), step("nap", "core.sleep", with_={"seconds": 1.3}), step("b")], {}),
    "nul": ([step("a", "core.transform", with_={"input": 0, "expression": "from_json('\"\\u0000\"')"})], {}),
    "nul-input": ([step("a", with_={"t": NUL}), step("b")], {}),
    "poison": ([step("a")], {}),
    "no-such-tool": ([step("a")], {}),
}


EXPECTED = {
    "plain": ("succeeded", 1, None),
    "retried": ("failed", 3, "unavailable"),
    "not-retryable": ("failed", 1, "rejected"),
    "retried-by-code": ("failed", 2, "rejected"),
    "other-code": ("failed", 1, "unavailable"),
    "step-retried": ("failed", 1, "unavailable"),
    "step-parked": ("failed", 1, "unavailable"),
    "continued": ("succeeded", 1, None),
    "fallback": ("succeeded", 1, None),
    "told": ("failed", 2, "unavailable"),
    "skipped": ("succeeded", 1, None),
    "step-timeout": ("failed", 1, "timeout"),
    "run-timeout": ("timed_out", 1, "timeout"),
    "blocked": ("blocked", 1, "gate_blocked"),
    "slept": ("succeeded", 1, None),
    "nul": ("failed", 1, "output_invalid"),
    "nul-input": ("failed", 1, "input_invalid"),
    "poison": ("failed", 1, "validation_failed"),
    "no-such-tool": ("failed", 1, "not_found"),
}
"""Status, attempts and error code."""


@pytest.fixture
async def ended(conn: Connection, crew: Crew) -> dict[str, Row]:
    """The runs by name, all over, with their attempts and steps."""
    ids: dict[str, UUID] = {}
    for name, (steps, members) in PIPELINES.items():
        ids[name] = await queue(conn, await make_task(conn, name, steps, **members))
    bad = """UPDATE duework.task_version SET definition = '{"apiVersion": "duework/v1"}'
      WHERE task_id = (SELECT id FROM duework.task WHERE name = 'poison')"""
    await conn.execute(bad.encode())
    swap = """UPDATE duework.task_version SET definition = jsonb_set(definition, '{steps,0,uses}', '"no.tool"')
      WHERE task_id = (SELECT id FROM duework.task WHERE name = 'no-such-tool')"""
    await conn.execute(swap.encode())
    await crew.worker(concurrency=30)
    await until(conn, "SELECT FROM duework.task_run WHERE final HAVING count(*) = %s", len(ids))
    runs = await rows(conn, "SELECT * FROM duework.runs")
    for run in runs:
        run["attempts"] = await rows(
            conn, "SELECT * FROM duework.attempts WHERE run_id = %s ORDER BY attempt", run["run_id"]
        )
        run["steps"] = await rows(
            conn, "SELECT * FROM duework.steps WHERE run_id = %s ORDER BY attempt, position", run["run_id"]
        )
    assert await one(conn, "SELECT count(*) FROM duework.checkpoint") == 0
    return {run["task"]: run for run in runs}


async def test_every_run_ends_as_its_pipeline_says(ended: dict[str, Row]) -> None:
    """Status, attempts, error code and tries of each pipeline of the table."""
    found = {
        name: (run["status"], run["attempt"], (run["error"] or {}).get("code")) for name, run in ended.items()
    }
    assert found == EXPECTED

    # Retries: every attempt is history, only the last is final, and a step's own tries are counted in it.
    assert [(a["status"], a["final"]) for a in ended["retried"]["attempts"]] == [
        ("failed", False),
        ("failed", False),
        ("failed", True),
    ]
    gaps = ended["retried"]["attempts"]
    assert all(b["started_at"] > a["finished_at"] for a, b in pairwise(gaps))
    assert [(s["status"], s["tries"]) for s in ended["step-retried"]["steps"]] == [("failed", 3)]
    assert [(s["status"], s["tries"]) for s in ended["step-parked"]["steps"]] == [("failed", 2)]
    assert ended["step-parked"]["duration_ms"] >= 1200, "a parked run keeps the instant at which it began"

    # What failed on purpose and what came of it.
    assert ended["continued"]["output"] == {"a": "failed", "b": "succeeded"}
    assert ended["fallback"]["output"] == {"n": 7, "code": "rejected"}
    assert ended["skipped"]["output"] == {"a": "skipped", "b": "succeeded"}
    told = [(s["attempt"], s["step"], s["status"]) for s in ended["told"]["steps"]]
    assert told == [(1, "a", "failed"), (2, "a", "failed"), (2, "tell", "succeeded")]
    assert ended["told"]["steps"][-1]["input"] == {"was": "unavailable"}

    # Time, and what may not be stored.
    assert ended["step-timeout"]["steps"][0]["status"] == "timed_out"
    assert ended["step-timeout"]["duration_ms"] < 5000
    assert ended["run-timeout"]["duration_ms"] < 5000
    assert [s["step"] for s in ended["slept"]["steps"]] == ["a", "nap", "b"]
    assert ended["slept"]["duration_ms"] >= 1300
    assert ended["blocked"]["steps"][0]["verdict"]["input"]["findings"][0]["kind"] == "email"
    assert ended["blocked"]["steps"][0]["input"] is None
