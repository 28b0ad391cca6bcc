"""POST /tasks/{id}/backfill: which instants are queued, which are left out, and how it ends."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from engine.db import Connection
from engine.store import leases
from scheduler.tick import tick
from tests.factories import lease_one, one, rows, run_row
from tests.integration.api.clients import client as client_of
from tests.integration.api.clients import pipeline, token_for

RANGE = {"start": "2026-03-01T00:00:00Z", "end": "2026-03-01T06:00:00Z"}
HOURLY = {"cron": "0 * * * *"}


@pytest.fixture
async def hourly(api: httpx2.AsyncClient) -> str:
    """The id of a task that is due every hour."""
    response = await api.post("/tasks", json=pipeline(schedule=HOURLY, priority=4, params={"city": "Bender"}))
    assert response.status_code == 201, response.text
    found: str = response.json()["id"]
    return found


async def backfilled(api: httpx2.AsyncClient, **members: Any) -> dict[str, Any]:
    """The answer to a backfill that is good."""
    response = await api.post("/tasks/job/backfill", json=RANGE | members)
    assert response.status_code == (200 if members.get("dry_run") else 202), response.text
    answer: dict[str, Any] = response.json()
    return answer


def hours(answer: dict[str, Any], name: str = "runs") -> list[int]:
    """The hours of the instants listed."""
    return [datetime.fromisoformat(each["scheduled_for"]).hour for each in answer[name]]


@pytest.mark.usefixtures("hourly")
async def test_every_instant_of_the_range_becomes_a_run(api: httpx2.AsyncClient, conn: Connection) -> None:
    """The end is exclusive; runs carry their instant, the backfill's id, a lower priority, and never expire."""
    answer = await backfilled(api)
    assert (answer["instants"], answer["queued"], answer["priority"]) == (6, 6, 6)
    assert hours(answer) == [0, 1, 2, 3, 4, 5]
    await api.post("/tasks/job/run_now")
    listed = (await api.get(f"/runs?parent_run_id={answer['backfill_id']}&limit=10")).json()["items"]
    assert {run["trigger"] for run in listed} == {"backfill"}
    assert len(listed) == 6
    assert {run["scheduled_for"] for run in listed} == {each["scheduled_for"] for each in answer["runs"]}
    assert await one(conn, "SELECT count(expires_at) FROM duework.due_work") == 0
    assert await one(conn, "SELECT count(*) FROM duework.occurrence") == 0
    details = await one(conn, "SELECT details FROM duework.audit_log WHERE action = 'backfill.requested'")
    assert (details["runs"], details["backfill_id"]) == (6, answer["backfill_id"])


@pytest.mark.usefixtures("hourly")
async def test_runs_are_leased_in_the_order_of_their_instants(
    api: httpx2.AsyncClient, conn: Connection
) -> None:
    """The oldest first, after what is due now; a run-now goes before them all."""
    await backfilled(api)
    await api.post("/tasks/job/run_now")
    taken = await leases.lease(conn, "w", 10, timedelta(seconds=30))
    assert [lease.trigger for lease in taken] == ["run_now", *["backfill"] * 6]
    assert [lease.scheduled_for.hour for lease in taken if lease.scheduled_for] == [0, 1, 2, 3, 4, 5]


@pytest.mark.usefixtures("hourly")
async def test_a_dry_run_queues_nothing(api: httpx2.AsyncClient, conn: Connection) -> None:
    """200 with what would be queued; no row, no line in the audit log."""
    answer = await backfilled(api, dry_run=True)
    assert (answer["queued"], answer["backfill_id"], hours(answer)) == (6, None, [0, 1, 2, 3, 4, 5])
    assert "would be queued" in answer["message"]
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0
    assert await one(conn, "SELECT count(*) FROM duework.audit_log WHERE action LIKE 'backfill%%'") == 0


@pytest.mark.usefixtures("hourly")
async def test_what_has_run_or_is_queued_is_left_out(api: httpx2.AsyncClient, conn: Connection) -> None:
    """A second backfill adds nothing; one that failed is queued again, a success is not, unless it is asked for."""
    await backfilled(api)
    again = await backfilled(api)
    assert (again["queued"], again["backfill_id"]) == (0, None)
    assert [each["reason"] for each in again["left_out"]] == ["queued"] * 6
    for status in ("succeeded", "failed"):
        lease = await lease_one(conn)
        assert await leases.settle(conn, [run_row(lease, status)], [])
    third = await backfilled(api)
    assert hours(third) == [1]
    assert [each["reason"] for each in third["left_out"]] == ["succeeded", *["queued"] * 4]
    every = await backfilled(api, rerun=True)
    assert (every["queued"], every["left_out"]) == (6, [])


async def test_what_the_schedule_ran_is_left_out(api: httpx2.AsyncClient, conn: Connection) -> None:
    """An instant that the scheduler queued, or will still decide about, is not doubled."""
    await api.post("/tasks", json=pipeline(schedule=HOURLY | {"catchup": {"policy": "all"}}))
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    await conn.execute("UPDATE duework.task SET next_run = %s", (now - timedelta(hours=3),))
    asked = {"start": (now - timedelta(hours=6)).isoformat(), "end": now.isoformat()}
    before = await backfilled(api, **asked, dry_run=True)
    assert [each["reason"] for each in before["left_out"]] == ["pending"] * 3
    async with conn.transaction():
        await tick(conn, timedelta(0), timedelta(seconds=30), 10)
    answer = await backfilled(api, **asked)
    assert answer["queued"] == 3
    assert [each["reason"] for each in answer["left_out"]] == ["queued"] * 3


@pytest.mark.usefixtures("hourly")
async def test_two_at_once_make_the_runs_once(api: httpx2.AsyncClient, conn: Connection) -> None:
    """The task's row lock puts them one after the other: the second finds the work of the first."""
    answers = await asyncio.gather(*(backfilled(api) for _ in range(4)))
    assert sorted(answer["queued"] for answer in answers) == [0, 0, 0, 6]
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 6


@pytest.mark.usefixtures("hourly")
async def test_a_key_makes_one_backfill(api: httpx2.AsyncClient, conn: Connection) -> None:
    """The same key and body: the first answer again, although the second would find nothing to do."""
    key = {"Idempotency-Key": "k-1"}
    first = await api.post("/tasks/job/backfill", json=RANGE, headers=key)
    again = await api.post("/tasks/job/backfill", json=RANGE, headers=key)
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 6


@pytest.mark.usefixtures("hourly")
async def test_too_many_are_refused_with_a_way_out(api: httpx2.AsyncClient, conn: Connection) -> None:
    """Nothing is cut off silently: 422 says how many there are, and where a first part would end."""
    response = await api.post("/tasks/job/backfill", json=RANGE | {"max": 2})
    assert response.status_code == 422
    (problem,) = response.json()["errors"]
    assert (problem["pointer"], problem["code"]) == ("/max", "too_many")
    assert "6 instants" in problem["detail"]
    assert "end before 2026-03-01T02:00:00Z" in problem["detail"]
    part = await backfilled(api, max=2, end="2026-03-01T02:00:00Z")
    assert part["queued"] == 2
    # What is there already does not count: the rest of a range can be asked for as a whole.
    rest = await backfilled(api, max=4)
    assert rest["queued"] == 4
    many = await api.post("/tasks/job/backfill", json=RANGE | {"start": "2020-01-01", "max": 1000})
    assert "more than 10000 instants" in many.json()["detail"]
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 6


async def test_dates_are_local_and_the_gap_is_one_instant(api: httpx2.AsyncClient) -> None:
    """A date means midnight in the task's zone, and what the schedule does on that day is what is run."""
    await api.post("/tasks", json=pipeline(schedule={"cron": "30 2 * * *", "timezone": "America/New_York"}))
    answer = await backfilled(api, start="2026-03-07", end="2026-03-10")
    assert [each["scheduled_for"] for each in answer["runs"]] == [
        "2026-03-07T07:30:00Z", "2026-03-08T07:30:00Z", "2026-03-09T06:30:00Z"
    ]  # fmt: skip
    assert (answer["start"], answer["end"]) == ("2026-03-07T05:00:00Z", "2026-03-10T04:00:00Z")


async def test_a_rule_begins_at_its_anchor(api: httpx2.AsyncClient) -> None:
    """Before its start a rule names nothing; with a start in the past it does."""
    await api.post("/tasks", json=pipeline(schedule={"every": "1h"}))
    answer = await backfilled(api)
    assert (answer["instants"], answer["message"]) == (0, "the schedule names no instant in this range")
    await api.patch("/tasks/job", json={"schedule": {"every": "1h", "start": "2026-01-01T00:30:00"}})
    later = await backfilled(api)
    assert (later["queued"], later["task_version"]) == (6, 2)


@pytest.mark.parametrize(
    ("members", "pointer", "said"),
    [
        ({"start": "2026-03-02"}, "/start", "not before the end"),
        ({"end": "2126-01-01"}, "/end", "in the future"),
        ({"start": "soon"}, "/start", "not a date-time"),
        ({"start": "2026-02-30"}, "/start", "not a date-time"),
        ({"start": "1066-10-14"}, "/start", "1900"),
        ({"max": 1001}, "/max", "1000"),
        ({"priority": 0}, "/priority", "1"),
        ({"params": []}, "/params", "object"),
        ({"until": "2026-03-02"}, "/until", "until"),
    ],
)
@pytest.mark.usefixtures("hourly")
async def test_a_backfill_that_cannot_be(
    api: httpx2.AsyncClient, members: dict[str, Any], pointer: str, said: str
) -> None:
    """422 with the place, and nothing queued."""
    response = await api.post("/tasks/job/backfill", json=RANGE | members)
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["pointer"] == pointer
    assert said in response.text
    assert (await api.get("/runs")).json()["items"] == []


@pytest.mark.parametrize("schedule", [{"manual": True}, {"event": {"topic": "a.*"}}])
async def test_kinds_without_instants_are_refused(api: httpx2.AsyncClient, schedule: dict[str, Any]) -> None:
    """There is nothing to repeat; run_now is named."""
    await api.post("/tasks", json=pipeline(schedule=schedule))
    response = await api.post("/tasks/job/backfill", json=RANGE)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (422, "no_instants")
    assert "run_now" in response.text


@pytest.mark.usefixtures("hourly")
async def test_parameters_pass_the_gate_and_the_schema(api: httpx2.AsyncClient, conn: Connection) -> None:
    """As those of a run-now do: merged over the definition's, refused where the policy says so."""
    bad = await api.post("/tasks/job/backfill", json=RANGE | {"params": {"note": "mail ada@example.com"}})
    assert bad.status_code == 400
    assert "ada@" not in bad.text
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0
    await backfilled(api, params={"n": 1}, priority=9)
    found = await rows(conn, "SELECT DISTINCT params, priority FROM duework.due_work")
    assert found == [{"params": {"city": "Bender", "n": 1}, "priority": 9}]


@pytest.mark.usefixtures("hourly")
async def test_paused_yes_canceled_no(api: httpx2.AsyncClient) -> None:
    """Like run-now, a backfill of a paused task is allowed, to catch up with the pause. It ends with its task."""
    await api.post("/tasks/job/pause")
    assert (await backfilled(api))["queued"] == 6
    await api.post("/tasks/job/cancel")
    assert (await api.post("/tasks/job/backfill", json=RANGE)).status_code == 409
    assert (await api.post("/tasks/nobody/backfill", json=RANGE)).status_code == 404
    assert (await api.post("/tasks/job/backfill/cancel")).json()["canceled"] == 0
    assert (await api.get("/runs?status=canceled")).json()["items"][5]["trigger"] == "backfill"


@pytest.mark.usefixtures("hourly")
async def test_what_nobody_has_begun_can_be_canceled_at_once(
    api: httpx2.AsyncClient, conn: Connection
) -> None:
    """The rest of a backfill goes into history as canceled; the run under way goes on, unless it is asked for."""
    first = await backfilled(api)
    second = await backfilled(api, start="2026-02-01", end="2026-02-02")
    lease = await lease_one(conn)
    other = {"backfill_id": second["backfill_id"], "reason": "wrong month"}
    answer = (await api.post("/tasks/job/backfill/cancel", json=other)).json()
    assert (answer["canceled"], answer["running"]) == (24, 0)
    answer = (await api.post("/tasks/job/backfill/cancel")).json()
    assert (answer["canceled"], answer["canceling"], answer["running"]) == (5, 0, 1)
    assert answer["message"] == "5 runs canceled; 1 run under way and left alone"
    ended = (await api.get("/runs?status=canceled&limit=200")).json()["items"]
    assert [run["trigger"] for run in ended] == ["backfill"] * 29
    assert {run["error"]["message"] for run in ended} == {
        "wrong month", "the backfill was canceled by system-agent"
    }  # fmt: skip
    told = (await api.post("/tasks/job/backfill/cancel", json={"running": True})).json()
    assert (told["canceled"], told["canceling"]) == (0, 1)
    mark = await one(conn, "SELECT cancel_reason FROM duework.due_work WHERE id = %s", lease.run_id)
    assert mark is not None
    assert str(lease.run_id) in {each["run_id"] for each in first["runs"]}
    counts = await rows(conn, "SELECT details FROM duework.audit_log WHERE action = 'backfill.canceled'")
    assert [each["details"]["runs"] for each in counts] == [24, 5, 1]


@pytest.mark.usefixtures("hourly")
async def test_a_canceled_instant_may_be_asked_for_again(api: httpx2.AsyncClient) -> None:
    """Canceled is not succeeded."""
    await backfilled(api)
    await api.post("/tasks/job/backfill/cancel")
    assert (await backfilled(api))["queued"] == 6


@pytest.mark.usefixtures("hourly")
async def test_a_retry_repeats_the_instant(api: httpx2.AsyncClient, conn: Connection) -> None:
    """The run that repeats a failed one is for the same instant, and counts as its run."""
    await backfilled(api, end="2026-03-01T01:00:00Z")
    lease = await lease_one(conn)
    await leases.settle(conn, [run_row(lease, "failed")], [])
    again = (await api.post(f"/runs/{lease.run_id}/retry")).json()
    assert again["scheduled_for"] == "2026-03-01T00:00:00Z"
    answer = await backfilled(api, end="2026-03-01T01:00:00Z")
    assert [each["reason"] for each in answer["left_out"]] == ["queued"]


async def test_runs_of_a_backfill_wait_for_each_other(api: httpx2.AsyncClient, conn: Connection) -> None:
    """Under a concurrency key, a backfill's runs queue up even where overlapping instants would be skipped."""
    limited = {"limit": 1, "on_conflict": "skip"}
    await api.post("/tasks", json=pipeline(schedule=HOURLY, concurrency=limited))
    await backfilled(api)
    for hour in range(6):
        (lease,) = await leases.lease(conn, "w", 10, timedelta(seconds=30))
        assert lease.scheduled_for is not None
        assert lease.scheduled_for.hour == hour
        async with conn.transaction():
            assert await leases.settle(conn, [run_row(lease)], [])
    assert await one(conn, "SELECT count(*) FROM duework.runs WHERE status = 'succeeded'") == 6


@pytest.mark.usefixtures("hourly")
async def test_scopes(api: httpx2.AsyncClient, app: Starlette) -> None:
    """task:run is needed, and enough."""
    async with client_of(app, await token_for(app, "task:write", "run:write")) as other:
        assert (await other.post("/tasks/job/backfill", json=RANGE)).status_code == 403
        assert (await other.post("/tasks/job/backfill/cancel")).status_code == 403
    async with client_of(app, await token_for(app, "task:run", name="runner")) as other:
        assert (await other.post("/tasks/job/backfill", json=RANGE)).status_code == 202
        assert (await other.post("/tasks/job/backfill/cancel")).json()["canceled"] == 6
