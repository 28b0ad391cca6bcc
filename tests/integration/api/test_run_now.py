"""POST /tasks/{id}/run_now: parameters, preferences, and keys that may come twice."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from api.idempotency import stored
from engine import db
from engine.db import Connection
from engine.store import leases
from tests.factories import lease_one, one, run_row
from tests.integration.api.clients import pipeline
from tests.polling import poll_until

SCHEMA = {
    "type": "object",
    "required": ["city", "chat_id"],
    "additionalProperties": False,
    "properties": {"city": {"type": "string", "default": "Chisinau"}, "chat_id": {"type": "integer"}},
}


async def test_a_run_is_queued(api: httpx2.AsyncClient, conn: Connection) -> None:
    """200 with Location and the queued run, in our members and in the seed's; it is found there at once."""
    await api.post("/tasks", json=pipeline())
    response = await api.post("/v1/tasks/job/run_now")
    assert response.status_code == 200
    run = response.json()
    assert (run["status"], run["success"], run["trigger"]) == ("queued", True, "run_now")
    assert run["details"]["run_id"] == run["run_id"] == run["id"]
    assert response.headers["location"] == f"/v1/runs/{run['run_id']}"
    assert (await api.get(response.headers["location"])).json()["status"] == "queued"
    lease = await lease_one(conn)
    assert str(lease.run_id) == run["run_id"]
    actor = await one(conn, "SELECT actor FROM duework.audit_log WHERE action = 'run.requested'")
    assert actor == "system-agent"


async def test_a_paused_task_may_be_run(api: httpx2.AsyncClient) -> None:
    """Pausing stops the schedule, not people."""
    await api.post("/tasks", json=pipeline())
    await api.post("/tasks/job/pause")
    assert (await api.post("/tasks/job/run_now")).status_code == 200


async def test_parameters_go_over_those_of_the_definition(api: httpx2.AsyncClient) -> None:
    """Given ones win, defaults are filled in, and the whole must fit params_schema."""
    await api.post("/tasks", json=pipeline(params_schema=SCHEMA, params={"chat_id": 1}))
    run = (await api.post("/tasks/job/run_now", json={"params": {"chat_id": 2}})).json()
    assert run["params"] == {"city": "Chisinau", "chat_id": 2}
    assert (await api.post("/tasks/job/run_now", json={})).json()["params"] is None
    for params in ({"chat_id": "two"}, {"town": "Bender"}):
        wrong = await api.post("/tasks/job/run_now", json={"params": params})
        assert wrong.status_code == 422
        assert wrong.json()["errors"][0]["pointer"].startswith("/params/")


async def test_required_parameters_are_asked_for(api: httpx2.AsyncClient) -> None:
    """A manual task may be defined without them, and not be run without them."""
    assert (await api.post("/tasks", json=pipeline(params_schema=SCHEMA))).status_code == 201
    assert (await api.post("/tasks/job/run_now")).status_code == 422


async def test_parameters_pass_the_gate(api: httpx2.AsyncClient, conn: Connection) -> None:
    """Blocked under the default policy, redacted where the task says so; a refusal names the task."""
    task = (await api.post("/tasks", json=pipeline())).json()
    params = {"params": {"note": "mail ada@example.com"}}
    refused = await api.post("/tasks/job/run_now", json=params)
    assert refused.status_code == 400
    assert "ada@" not in refused.text
    kept = await one(conn, "SELECT task_id::text || ' ' || surface FROM duework.refusal")
    assert kept == f"{task['id']} POST /tasks/{{id}}/run_now"
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0
    await api.post("/tasks", json=pipeline("soft", reflex={"pii": "redact"}))
    run = (await api.post("/tasks/soft/run_now", json=params)).json()
    assert run["params"] == {"note": "mail [EMAIL]"}


@pytest.mark.parametrize("body", [[], {"param": {}}, {"params": 1}, "x"])
async def test_a_body_of_another_shape_is_refused(api: httpx2.AsyncClient, body: Any) -> None:
    """422 with the place."""
    await api.post("/tasks", json=pipeline())
    assert (await api.post("/tasks/job/run_now", json=body)).status_code == 422


async def test_an_answer_at_once_may_be_preferred(api: httpx2.AsyncClient) -> None:
    """`Prefer: respond-async` is a 202."""
    await api.post("/tasks", json=pipeline())
    response = await api.post("/tasks/job/run_now", headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async"


async def test_the_finished_run_may_be_preferred(api: httpx2.AsyncClient, conn: Connection) -> None:
    """`Prefer: wait` answers when the run has ended, with how it ended."""
    await api.post("/tasks", json=pipeline())
    waiting = asyncio.create_task(api.post("/tasks/job/run_now", headers={"Prefer": "wait=20"}))
    await poll_until(lambda: one(conn, "SELECT count(*) FROM duework.due_work"))
    lease = await lease_one(conn)
    assert await leases.settle(conn, [run_row(lease, output={"sum": 3})], [])
    response = await waiting
    assert (response.status_code, response.headers["preference-applied"]) == (200, "wait=20")
    run = response.json()
    assert (run["status"], run["success"], run["output"]) == ("succeeded", True, {"sum": 3})


async def test_a_wait_ends_when_its_time_is_up(api: httpx2.AsyncClient) -> None:
    """Nobody takes the run: the answer says that it goes on, 200 or 202 as was preferred."""
    await api.post("/tasks", json=pipeline())
    for prefer, status in (("wait=1", 200), ("respond-async, wait=1", 202)):
        response = await api.post("/tasks/job/run_now", headers={"Prefer": prefer})
        assert (response.status_code, response.json()["status"]) == (status, "queued")
        assert "goes on" in response.json()["message"]


async def test_a_key_makes_one_run(api: httpx2.AsyncClient, conn: Connection) -> None:
    """The same key and body: the first answer again. Another body: 422. Another agent's key is another key."""
    await api.post("/tasks", json=pipeline())
    key = {"Idempotency-Key": "k-1"}
    first = await api.post("/tasks/job/run_now", json={}, headers=key)
    again = await api.post("/tasks/job/run_now", json={}, headers=key)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert (again.headers["idempotency-replayed"], again.status_code) == ("true", 200)
    assert "idempotency-replayed" not in first.headers
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 1
    assert (await api.post("/tasks/job/run_now", json={"params": {"x": 1}}, headers=key)).status_code == 422
    assert (await api.post("/events", json={"topic": "a"}, headers=key)).status_code == 422
    assert (await api.post("/tasks/job/run_now", headers={"Idempotency-Key": "a b"})).status_code == 400


async def test_a_key_under_way_is_a_conflict(
    api: httpx2.AsyncClient, database_url: str, conn: Connection
) -> None:
    """While another transaction works under the key: 409 with Retry-After. After a crash the key is free."""
    await api.post("/tasks", json=pipeline())
    key = {"agent_id": "00000000-0000-0000-0000-000000000001", "key": stored("k-2")}
    async with await db.connect(database_url, "other") as other, other.transaction(force_rollback=True):
        await db.fetch_one(other, "find_key", key)
        response = await api.post("/tasks/job/run_now", headers={"Idempotency-Key": "k-2"})
        assert response.status_code == 409
        assert response.headers["retry-after"] == "1"
    assert (await api.post("/tasks/job/run_now", headers={"Idempotency-Key": "k-2"})).status_code == 200


async def test_a_refused_request_leaves_its_key_free(api: httpx2.AsyncClient) -> None:
    """An error is not an answer that is kept: the same key works once the request does."""
    key = {"Idempotency-Key": "k-3"}
    assert (await api.post("/tasks/job/run_now", headers=key)).status_code == 404
    await api.post("/tasks", json=pipeline())
    assert (await api.post("/tasks/job/run_now", headers=key)).status_code == 200
