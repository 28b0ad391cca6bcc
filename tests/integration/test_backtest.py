"""Back-tests on stored runs: what a candidate would change, in pages, without a value in the answer."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from engine.db import Connection, Row
from engine.reflex import parse_policy
from engine.reflex.allowing import value_digest
from engine.reflex.edition import read_edition
from engine.store import allowances, gate_key, leases, stored_steps
from engine.store.allowances import Mark
from ops.backtest import Candidate, backtest
from tests.factories import lease_one, make_task, queue, run_row, step, step_row
from tests.processes import settings_for

DAY = timedelta(days=1)
BADGES = r"""
[[pattern]]
name = "employee_id.badge"
kind = "employee_id"
regex = '''\bEMP-\d{6}\b'''
match = ["badge «EMP-204417»"]
"""


async def ran(conn: Connection, task: Row, output: Any, **members: Any) -> None:
    """A run of the task that ended, with one step."""
    await queue(conn, task)
    lease = await lease_one(conn)
    given = {"input": {"message": "hello"}, "output": output} | members
    async with conn.transaction():
        assert await leases.settle(conn, [run_row(lease)], [step_row(lease, **given)])


@pytest.fixture
def badges(tmp_path: Path) -> Candidate:
    """A candidate that knows one more kind."""
    path = tmp_path / "kinds.toml"
    path.write_text(BADGES, encoding="utf-8")
    return Candidate(read_edition(path))


async def test_what_a_candidate_would_find(conn: Connection, database_url: str, badges: Candidate) -> None:
    """Its own kind is newly blocked where it passed; what is as before is no change; no value is told."""
    task = await make_task(conn, "mail", [step("only")])
    await ran(conn, task, {"badge": "EMP-204417", "EMP-204418": 1, "note": "nothing"})
    await ran(conn, task, {"badge": "EMP-204419"})
    await ran(conn, task, {"badge": "none"})
    report = (await backtest(settings_for(database_url), badges, DAY)).as_dict()
    assert (report["runs"], report["values"]) == (3, 6)
    assert report["values_changed"] == [{"before": "pass", "after": "block", "values": 2}]
    (badge,) = report["changes"]
    assert (badge["task"], badge["step"], badge["direction"]) == ("mail", "only", "output")
    assert (badge["kind"], badge["rule"]) == ("employee_id", "employee_id.badge")
    assert (badge["before"], badge["after"], badge["places"]) == ("pass", "block", 3)
    assert sorted(badge["pointers"]) == ["/[EMPLOYEE_ID]", "/badge"]
    assert "EMP-" not in json.dumps(report)


async def test_what_another_policy_would_do(conn: Connection, database_url: str) -> None:
    """A stricter policy blocks what was flagged, a looser one lets it pass; another task's runs are left out."""
    flagged = await make_task(conn, "loose", [step("only")], reflex={"pii": "flag"})
    other = await make_task(conn, "other", [step("only")])
    await ran(conn, flagged, {"to": "ada@example.org", "was": "[EMAIL]", "at": "x@[EMAIL]"})
    await ran(conn, other, {"to": "ada@example.org"})
    settings = settings_for(database_url)
    stricter = await backtest(settings, Candidate(None, parse_policy({"pii": "block"})), DAY, "loose")
    (change,) = stricter.as_dict()["changes"]
    assert (change["kind"], change["before"], change["after"]) == ("email", "flag", "block")
    assert change["pointers"] == ["/to"]
    looser = await backtest(settings, Candidate(None, parse_policy({"allow": ["email"]})), DAY)
    assert {(each["task"], each["before"], each["after"]) for each in looser.as_dict()["changes"]} == {
        ("loose", "flag", "pass"),
        ("other", "block", "pass"),
    }
    same = await backtest(settings, Candidate(None, parse_policy({"pii": "flag"})), DAY, "loose")
    assert not same.differs


async def test_without_a_candidate_it_is_compared_with_what_was_decided(
    conn: Connection, database_url: str
) -> None:
    """What passed then and would be blocked now is told; what was flagged then, redacted, or allowed since is not."""
    task = await make_task(conn, "job", [step("only")], reflex={"pii": "flag"})
    finding = {
        "category": "pii",
        "kind": "email",
        "rule": "email.address",
        "pointer": "/to",
        "action": "flag",
    }
    told = {"output": {"action": "flag", "findings": [finding]}}
    settings = settings_for(database_url)
    await ran(conn, task, {"to": "ada@example.org"}, verdict=told)
    await ran(
        conn, task, {"to": "write to [EMAIL]"}, verdict={"output": {"action": "redact", "findings": []}}
    )
    assert not (await backtest(settings, Candidate(), DAY)).differs
    await ran(conn, task, {"to": "bob@example.org"})
    report = await backtest(settings, Candidate(), DAY)
    assert [(each["before"], each["after"]) for each in report.as_dict()["changes"]] == [("pass", "flag")]
    digest = value_digest(await gate_key.load(conn, settings), "bob@example.org")
    await allowances.add(conn, Mark("test data", "ada", digest=digest, task_id=task["id"]))
    assert not (await backtest(settings, Candidate(), DAY)).differs


async def test_blocked_steps_are_counted(conn: Connection, database_url: str, badges: Candidate) -> None:
    """Nothing of them is stored; the answer says how many there were. A tool that is gone is no hindrance."""
    task = await make_task(conn, "job", [step("only")])
    await ran(conn, task, None, status="blocked", input=None)
    await ran(conn, task, "EMP-204417", tool="gone.tool", step="renamed")
    report = await backtest(settings_for(database_url), badges, DAY)
    assert (report.blocked, report.runs) == (1, 2)
    assert [each["step"] for each in report.as_dict()["changes"]] == ["renamed"]


async def test_it_walks_in_pages_and_writes_nothing(conn: Connection, database_url: str) -> None:
    """Every run comes once, the newest first, whatever the size of a page; its transactions refuse to write."""
    task = await make_task(conn, "job", [step("only")])
    for number in range(7):
        await ran(conn, task, number)
    for runs in (1, 3, 7, 50):
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as reader:
            found = [row async for row in stored_steps.walk(_typed(reader), task["created_at"], runs=runs)]
            assert [row["output"] for row in found] == [6, 5, 4, 3, 2, 1, 0]
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                async with reader.transaction():
                    await reader.execute("DELETE FROM duework.task_run")


def _typed(reader: Any) -> Connection:
    reader.row_factory = psycopg.rows.dict_row
    return reader  # type: ignore[no-any-return]  # the row factory makes it one
