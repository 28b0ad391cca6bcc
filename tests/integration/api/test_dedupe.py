"""What callers are told when another run stands for the one they asked for, and what a paused task tells them."""

from __future__ import annotations

import httpx2
from starlette.applications import Starlette

from engine.db import Connection
from engine.store import failures, leases
from tests.factories import lease_one, one, run_row
from tests.integration.api.clients import client, pipeline, token_for

HOUR = {"key": "report", "window": "1h"}


async def test_a_second_run_now_is_told_the_first(api: httpx2.AsyncClient, conn: Connection) -> None:
    """200 with the earlier run and `deduplicated`; nothing is queued, and the audit log has it."""
    await api.post("/tasks", json=pipeline(dedupe=HOUR))
    first = (await api.post("/tasks/job/run_now")).json()
    again = await api.post("/tasks/job/run_now")
    assert (first["deduplicated"], again.json()["deduplicated"]) == (False, True)
    assert again.status_code == 200
    assert again.json()["run_id"] == again.json()["details"]["run_id"] == first["run_id"]
    assert again.headers["location"] == f"/runs/{first['run_id']}"
    assert "nothing is queued" in again.json()["message"]
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 1
    subject = await one(conn, "SELECT subject FROM duework.audit_log WHERE action = 'run.deduplicated'")
    assert subject == f"run:{first['run_id']}"


async def test_a_wait_is_for_the_run_that_stands(api: httpx2.AsyncClient, conn: Connection) -> None:
    """`Prefer: wait` answers with the end of the earlier run, however long ago that was."""
    await api.post("/tasks", json=pipeline(dedupe=HOUR))
    first = (await api.post("/tasks/job/run_now")).json()
    assert await leases.settle(conn, [run_row(await lease_one(conn), output={"sum": 3})], [])
    again = (await api.post("/tasks/job/run_now", headers={"Prefer": "wait=5"})).json()
    assert (again["run_id"], again["status"], again["output"]) == (first["run_id"], "succeeded", {"sum": 3})
    assert again["deduplicated"] is True


async def test_others_values_are_for_those_who_may_read_runs(
    app: Starlette, api: httpx2.AsyncClient, conn: Connection
) -> None:
    """Who may only start runs learns which one stands, and neither its parameters nor its output."""
    await api.post("/tasks", json=pipeline(dedupe=HOUR, params={"n": 1}))
    await api.post("/tasks/job/run_now", json={"params": {"n": 2}})
    assert await leases.settle(conn, [run_row(await lease_one(conn), output={"sum": 3})], [])
    for scopes, shown in ((("task:run",), (None, None)), (("task:run", "run:read"), ({"n": 2}, {"sum": 3}))):
        async with client(app, await token_for(app, *scopes, name=f"a{len(scopes)}")) as caller:
            for headers in ({}, {"Prefer": "wait=5"}):
                run = (await caller.post("/tasks/job/run_now", headers=headers)).json()
                assert run["deduplicated"] is True
                assert (run["params"], run["output"]) == shown


async def test_a_key_that_cannot_be_made_is_a_422(api: httpx2.AsyncClient, conn: Connection) -> None:
    """With the place of the key; a definition whose key can never be made is refused as well."""
    await api.post("/tasks", json=pipeline(dedupe={"key": "${params.id}"}))
    refused = await api.post("/tasks/job/run_now", json={"params": {"id": ""}})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/dedupe/key")
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0
    never = pipeline("never", dedupe={"key": "${params.id}"}, schedule={"every": "1m"})
    assert (await api.post("/tasks", json=never)).json()["errors"][0]["code"] == "dedupe_key"


async def test_events_tell_which_runs_stand(api: httpx2.AsyncClient) -> None:
    """Each event is accepted; the answer lists the task with the run that was there."""
    task = pipeline(dedupe={"key": "${event.payload.id}", "window": "1h"}, schedule={"event": {"topic": "a"}})
    await api.post("/tasks", json=task)
    first, again = [
        (await api.post("/events", json={"topic": "a", "payload": {"id": 7}})).json() for _ in "12"
    ]
    assert again["duplicate"] is False
    assert again["event_id"] != first["event_id"]
    assert [each["deduplicated"] for each in (*first["triggered_tasks"], *again["triggered_tasks"])] == [
        False,
        True,
    ]
    assert again["triggered_tasks"][0]["run_id"] == first["triggered_tasks"][0]["run_id"]


async def test_a_task_that_keeps_failing_tells_why_it_is_paused(
    api: httpx2.AsyncClient, conn: Connection
) -> None:
    """GET shows the reason and what was asked for; a resume clears it."""
    task = (await api.post("/tasks", json=pipeline(pause_after_failures=1))).json()
    await api.post("/tasks/job/run_now")
    error = {"code": "rejected", "message": "secret words of a tool", "step": "only"}
    assert await leases.settle(conn, [run_row(await lease_one(conn), "failed", error=error)], [])
    await failures.pause_failing(conn, [task["id"]], "worker-1")
    shown = (await api.get("/tasks/job")).json()
    reason = "a run failed, the last: rejected at step only; resume it when it is mended"
    assert (shown["status"], shown["status_reason"], shown["pause_after_failures"]) == ("paused", reason, 1)
    assert (await api.post("/tasks/job/resume")).json()["status_reason"] is None


async def test_the_seeds_key_is_honoured(api: httpx2.AsyncClient) -> None:
    """dedupe_key and dedupe_window_seconds of the seed format; a window of 0 is none."""
    for number, window in enumerate((3600, 0)):
        seed = {
            "title": f"report {number}", "schedule_kind": "manual", "schedule_expr": "",
            "payload": {"pipeline": [{"uses": "core.echo", "with": {"text": "x"}}]},
            "dedupe_key": "daily-${x}", "dedupe_window_seconds": window,
        }  # fmt: skip
        task = (await api.post("/tasks", json=seed)).json()
        assert (task["dedupe_key"], task["dedupe_window_seconds"]) == ("daily-$${x}", window or None)
        found = [(await api.post(f"/tasks/{task['id']}/run_now")).json()["deduplicated"] for _ in range(2)]
        assert found == [False, True]
