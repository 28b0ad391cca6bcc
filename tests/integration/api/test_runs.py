"""/runs: the history, and what may be done to a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx2

from engine.db import Connection
from engine.store import leases
from tests.factories import lease_one, one, run_row, step_row
from tests.integration.api.clients import pipeline

FAILURE = {"code": "rejected", "message": "no", "step": "only"}


async def finished(
    api: httpx2.AsyncClient, conn: Connection, status: str = "succeeded", name: str = "job"
) -> str:
    """The id of a run of that task which has ended so."""
    if (await api.get(f"/tasks/{name}")).status_code == 404:
        await api.post("/tasks", json=pipeline(name))
    run = (await api.post(f"/tasks/{name}/run_now", json={"params": {"n": 1}})).json()
    lease = await lease_one(conn)
    error = None if status == "succeeded" else FAILURE
    row = run_row(lease, status, output={"ok": True}, error=error)
    assert await leases.settle(conn, [row], [step_row(lease, input={"n": 1}, output={"n": 1})])
    return str(run["run_id"])


async def test_a_run_is_shown_with_its_attempts_and_steps(api: httpx2.AsyncClient, conn: Connection) -> None:
    """One page of everything there is to know about it."""
    run_id = await finished(api, conn)
    run = (await api.get(f"/runs/{run_id}")).json()
    assert (run["id"], run["status"], run["success"], run["output"]) == (
        run_id,
        "succeeded",
        True,
        {"ok": True},
    )
    assert run["params"] == {"n": 1}
    assert run["duration_ms"] == 5
    ((attempt,), (step,)) = run["attempts"], run["steps"]
    assert (attempt["attempt"], attempt["final"], attempt["status"]) == (1, True, "succeeded")
    assert (step["step"], step["tool"], step["output"]) == ("only", "core.echo", {"n": 1})


async def test_runs_are_listed_newest_first(api: httpx2.AsyncClient, conn: Connection) -> None:
    """Filters narrow, in the seed's names too; pages of a cursor hold every run once."""
    ids = [await finished(api, conn, "failed" if number == 1 else "succeeded") for number in range(3)]
    live = (await api.post("/tasks/job/run_now")).json()["run_id"]
    task_id = (await api.get("/tasks/job")).json()["id"]
    listed = [each["run_id"] for each in (await api.get("/runs")).json()["items"]]
    assert listed == [live, *reversed(ids)]
    now = datetime.now(UTC)
    early, late = (now - timedelta(hours=1)).isoformat(), (now + timedelta(hours=1)).isoformat()
    counts = {
        "success=true": 2, "success=false": 1, "status=queued": 1, f"task_id={task_id}": 4, "task=other": 0,
        "trigger=run_now": 4, "trigger=schedule": 0, "offset=3": 1,
    }  # fmt: skip
    for query, count in counts.items():
        assert len((await api.get(f"/runs?{query}")).json()["items"]) == count, query
    for names, count in ((("since", "until"), 3), (("start_time", "end_time"), 3)):
        window = dict(zip(names, (early, late), strict=True))
        assert len((await api.get("/runs", params=window)).json()["items"]) == count
        assert (await api.get("/runs", params={names[0]: late})).json()["items"] == []
    first = (await api.get("/runs?limit=3")).json()
    second = (await api.get("/runs", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [each["run_id"] for each in first["items"] + second["items"]] == listed
    assert second["has_more"] is False


async def test_errors_may_be_left_out(api: httpx2.AsyncClient, conn: Connection) -> None:
    """The seed's `include_errors=false`."""
    await finished(api, conn, "failed")
    assert (await api.get("/runs")).json()["items"][0]["error"] == FAILURE
    assert "error" not in (await api.get("/runs?include_errors=false")).json()["items"][0]


async def test_a_waiting_run_is_canceled_at_once(api: httpx2.AsyncClient, conn: Connection) -> None:
    """202 and the run has ended; a second time is a 409."""
    await api.post("/tasks", json=pipeline())
    run_id = (await api.post("/tasks/job/run_now")).json()["run_id"]
    response = await api.post(f"/runs/{run_id}/cancel", json={"reason": "ada@example.com said so"})
    assert (response.status_code, response.json()["status"]) == (202, "canceled")
    assert response.json()["error"]["message"] == "[EMAIL] said so"
    assert (await api.post(f"/runs/{run_id}/cancel")).status_code == 409


async def test_a_leased_run_is_canceled_by_its_worker(api: httpx2.AsyncClient, conn: Connection) -> None:
    """202 while it still runs; its holder hears of it at the next renewal."""
    await api.post("/tasks", json=pipeline())
    await api.post("/tasks/job/run_now")
    lease = await lease_one(conn)
    response = await api.post(f"/runs/{lease.run_id}/cancel")
    assert (response.status_code, response.json()["status"]) == (202, "running")
    renewed = await leases.renew(conn, [(lease.run_id, lease.fence)], timedelta(seconds=30))
    assert renewed == {lease.run_id: leases.Renewal(True, "canceled by system-agent")}


async def test_what_has_ended_can_be_run_again(api: httpx2.AsyncClient, conn: Connection) -> None:
    """A new run with the same parameters that names the old one; a live run or a canceled task is a 409."""
    run_id = await finished(api, conn, "failed")
    response = await api.post(f"/runs/{run_id}/retry", headers={"Idempotency-Key": "again"})
    assert response.status_code == 202
    run = response.json()
    assert (run["trigger"], run["params"], run["parent_run_id"]) == ("retry", {"n": 1}, run_id)
    assert (await api.get(response.headers["location"])).json()["parent_run_id"] == run_id
    assert (await api.post(f"/runs/{run['run_id']}/retry")).status_code == 409
    again = await api.post(f"/runs/{run_id}/retry", headers={"Idempotency-Key": "again"})
    assert again.json()["run_id"] == run["run_id"]
    await api.delete("/tasks/job")
    assert (await api.post(f"/runs/{run_id}/retry")).status_code == 409


async def test_a_tasks_latest_run_and_statistics(api: httpx2.AsyncClient, conn: Connection) -> None:
    """By name or id; a task that never ran has no latest run, and statistics of nothing."""
    await api.post("/tasks", json=pipeline())
    assert (await api.get("/runs/task/job/latest")).status_code == 404
    assert (await api.get("/runs/task/job/stats")).json()["total_runs"] == 0
    await finished(api, conn, "failed")
    newest = await finished(api, conn)
    await finished(api, conn, name="other")
    assert (await api.get("/runs/task/job/latest")).json()["run_id"] == newest
    stats = (await api.get("/runs/task/job/stats?days=1")).json()
    assert (stats["total"], stats["succeeded"], stats["failed"], stats["success_rate"]) == (2, 1, 1, 0.5)
    assert (await api.get("/runs/stats/summary")).json()["total_runs"] == 3
    future = {"since": (datetime.now(UTC) + timedelta(days=1)).isoformat()}
    assert (await api.get("/runs/stats/summary", params=future)).json()["total_runs"] == 0


async def test_a_run_that_is_not_there(api: httpx2.AsyncClient, conn: Connection) -> None:
    """404 on each of its paths, also where the id is none."""
    for run_id in ("00000000-0000-0000-0000-00000000dead", "what"):
        for method, tail in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry")):
            assert (await api.request(method, f"/runs/{run_id}{tail}")).status_code == 404
    assert (await api.get("/runs/task/nobody/latest")).status_code == 404
    assert await one(conn, "SELECT count(*) FROM duework.audit_log") == 0
