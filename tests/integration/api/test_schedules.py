"""GET /tasks/{id}/next and POST /schedules/preview: what will happen, with the days on which clocks change."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from engine.db import Connection
from tests.factories import one, rows
from tests.integration.api.clients import client as client_of
from tests.integration.api.clients import pipeline, token_for

NIGHTLY = {"cron": "30 2 * * *", "timezone": "America/New_York"}
SPRING = "2027-03-13T12:00:00Z"


async def previewed(api: httpx2.AsyncClient, body: dict[str, Any], query: str = "") -> dict[str, Any]:
    """The answer to a preview that is good."""
    response = await api.post(f"/schedules/preview{query}", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_preview_says_what_becomes_of_a_time_that_does_not_exist(api: httpx2.AsyncClient) -> None:
    """Words, zone, each instant in UTC and in the zone, and the day on which 02:30 is read as 03:30."""
    answer = await previewed(api, {"schedule": NIGHTLY, "n": 2, "after": SPRING})
    assert answer["schedule"] == "every day at 02:30, America/New_York"
    assert (answer["kind"], answer["timezone"], answer["start"]) == ("cron", "America/New_York", None)
    first, second = answer["instants"]
    assert (first["at"], first["local"]) == ("2027-03-14T07:30:00Z", "2027-03-14T03:30:00-04:00")
    assert (first["marks"], first["asked"]) == (["gap", "change_day"], ["2027-03-14T02:30:00"])
    assert "02:30 does not exist" in first["note"]
    assert (second["local"], second["marks"], second["note"]) == ("2027-03-15T02:30:00-04:00", [], None)
    assert answer["next"] == [first["at"], second["at"]]
    spring, autumn, *_ = answer["clock_changes"]
    assert (spring["offset_before"], spring["offset_after"]) == ("-05:00", "-04:00")
    assert autumn["note"] == "clocks go back from 02:00 to 01:00"


async def test_every_policy_and_date_is_honoured(api: httpx2.AsyncClient) -> None:
    """dst, exdates, rdates, end and jitter decide; what is left out is named."""
    schedule = NIGHTLY | {
        "dst": {"gap": "skip"}, "exdates": ["2027-03-16"], "rdates": ["2027-03-17T12:00:00"],
        "end": "2027-03-18", "jitter": "30s",
    }  # fmt: skip
    answer = await previewed(api, {"schedule": schedule, "after": SPRING}, "?n=1000")
    assert [each["local"][5:16] for each in answer["instants"]] == [
        "03-15T02:30", "03-17T02:30", "03-17T12:00", "03-18T02:30"
    ]  # fmt: skip
    assert [(each["wall"], each["reason"]) for each in answer["left_out"]] == [
        ("2027-03-14T02:30:00", "gap"), ("2027-03-16T02:30:00", "excluded")
    ]  # fmt: skip
    assert (answer["ended"], answer["jitter_seconds"]) == (True, 30)
    assert answer["instants"][0]["latest"] == "2027-03-15T06:30:30Z"
    assert answer["instants"][2]["marks"] == ["added"]
    assert any("jitter" in note for note in answer["notes"])


async def test_a_start_decides_and_its_absence_is_said(api: httpx2.AsyncClient) -> None:
    """A rule is anchored at its start; without one at the moment asked about, and the answer says where."""
    rule = {"rrule": "FREQ=DAILY;INTERVAL=2", "timezone": "Europe/Berlin"}
    given = {"schedule": rule | {"start": "2026-01-01T09:00:00"}}
    answer = await previewed(api, given, "?n=1&after=2026-06-01T00:00:00Z")
    assert answer["instants"][0]["local"] == "2026-06-02T09:00:00+02:00"
    assert (answer["start"], answer["notes"]) == ("2026-01-01T09:00:00", [])
    free = await previewed(api, {"schedule": rule}, "?n=1&after=2020-06-01T08:00:00Z")
    assert free["instants"][0]["local"] == "2020-06-03T10:00:00+02:00"
    assert free["notes"] == [
        "there is no start: it is anchored at 2020-06-01T10:00:00, where it takes what the rule leaves out"
    ]


SEED = {"schedule_kind": "cron", "schedule_expr": "30 2 * * *", "timezone": "America/New_York"}
SEED_STEP = {"id": "a", "uses": "core.echo", "with": {"text": "x"}}


@pytest.mark.parametrize(
    "body",
    [
        SEED,
        {"title": "t", "payload": {"pipeline": [SEED_STEP]}, **SEED},
        pipeline(schedule=NIGHTLY),
    ],
    ids=["seed", "seed document", "document"],
)
async def test_every_form_of_a_schedule_is_taken(api: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    """The seed's members and whole documents mean the same."""
    answer = await previewed(api, body, f"?n=1&after={SPRING}")
    assert answer["instants"][0]["asked"] == ["2027-03-14T02:30:00"]


async def test_warnings_and_kinds_without_instants(api: httpx2.AsyncClient) -> None:
    """Cron's OR is warned about; an event has words and no instants."""
    answer = await previewed(api, {"schedule": {"cron": "0 9 13 * 5"}})
    assert "either" in answer["warnings"][0]
    event = await previewed(api, {"schedule": {"event": {"topic": "mail.*"}}})
    assert (event["instants"], event["clock_changes"], event["ended"]) == ([], [], True)
    assert event["notes"] == ["there are no instants: it runs on every event that matches mail.*"]


@pytest.mark.parametrize(
    ("body", "query", "status", "said"),
    [
        ({"schedule": {"cron": "61 * * * *"}}, "", 422, "/schedule/cron"),
        ({"schedule_kind": "cron", "schedule_expr": "61 * * * *"}, "", 422, "/schedule_expr"),
        ({"schedule": {"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}}, "", 422, "never fires"),
        ({"schedule": NIGHTLY, "n": 3}, "?n=3", 422, "in the query as well"),
        ({"schedule": NIGHTLY, "n": 1001}, "", 422, "/n"),
        ({"schedule": NIGHTLY}, "?n=0", 400, "n"),
        ({"schedule": NIGHTLY}, "?after=yesterday", 400, "after"),
        ({"schedule": NIGHTLY, "shedule": 1}, "", 422, "shedule"),
        ({"apiVersion": "duework/v1", "kind": "Pipeline"}, "", 422, "steps"),
        ({"n": 3}, "", 422, "exactly one"),
    ],
)
async def test_a_preview_that_cannot_be(
    api: httpx2.AsyncClient, body: dict[str, Any], query: str, status: int, said: str
) -> None:
    """What is wrong, and where."""
    response = await api.post(f"/schedules/preview{query}", json=body)
    assert (response.status_code, said in response.text) == (status, True), response.text


async def test_the_next_instants_of_a_task_say_when_runs_may_begin(api: httpx2.AsyncClient) -> None:
    """With jitter each instant has the moment that every scheduler will compute, not before it and below its bound."""
    await api.post("/tasks", json=pipeline(schedule={"every": "10m", "jitter": "1m"}))
    answer = (await api.get("/tasks/job/next?n=50")).json()
    assert answer["schedule"] == "every 10m"
    later = [
        datetime.fromisoformat(each["run_at"]) - datetime.fromisoformat(each["at"])
        for each in answer["instants"]
    ]
    assert all(timedelta(0) <= each < timedelta(minutes=1) for each in later)
    assert len(set(later)) > 40
    again = (await api.get("/tasks/job/next?n=50")).json()
    assert again["instants"] == answer["instants"]


async def test_paused_snoozed_and_canceled_tasks_say_so(api: httpx2.AsyncClient, conn: Connection) -> None:
    """What would be is shown with a note on what keeps it from being; an overdue instant is told, too."""

    async def note() -> str:
        answer = (await api.get("/tasks/job/next?n=2")).json()
        assert len(answer["next"]) == 2
        return " ".join(answer["notes"])

    await api.post("/tasks", json=pipeline(schedule={"every": "10m"}))
    assert await note() == ""
    await conn.execute("UPDATE duework.task SET next_run = next_run - interval '1 hour'")
    assert "no scheduler has come to it" in await note()
    await api.post("/tasks/job/snooze", json={"delay_seconds": 7200, "reason": "maintenance"})
    assert "left out: snoozed: maintenance" in await note()
    until = await one(conn, "SELECT max(last_for) FROM duework.occurrence")
    assert datetime.fromisoformat((await api.get("/tasks/job/next?n=1")).json()["next"][0]) > until
    await api.post("/tasks/job/pause", json={"reason": "holidays"})
    assert "paused (holidays): none of these will run unless it is resumed" in await note()
    await api.post("/tasks/job/cancel")
    assert "canceled: none of these will run" in await note()


@pytest.mark.parametrize("n", ["0", "1001", "x"])
async def test_how_many_is_bounded(api: httpx2.AsyncClient, n: str) -> None:
    """From 1 to 1000; anything else is a 400 that names the parameter."""
    await api.post("/tasks", json=pipeline(schedule={"every": "10m"}))
    response = await api.get(f"/tasks/job/next?n={n}")
    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == "/n"
    assert (await api.get("/tasks/nobody/next")).status_code == 404


async def test_the_plan_of_apply_shows_the_clock_changes(api: httpx2.AsyncClient) -> None:
    """What a definition will do on the two days is part of the plan, months before."""
    body = pipeline(schedule=NIGHTLY)
    (plan,) = (await api.post("/apply?dry_run=true", json=body)).json()["results"]
    assert plan["schedule"] == "every day at 02:30, America/New_York"
    assert [each["at"] for each in plan["instants"]] == plan["next"]
    assert any(each["asked"] for day in plan["clock_changes"] for each in day["instants"])
    dry = (await api.post("/tasks?dry_run=true", json=body)).json()
    assert dry["clock_changes"] == plan["clock_changes"]


async def test_a_preview_needs_the_scope_to_read_tasks(api: httpx2.AsyncClient, app: Any) -> None:
    """403 without task:read."""
    await api.post("/tasks", json=pipeline())
    async with client_of(app, await token_for(app, "run:read")) as other:
        assert (await other.get("/tasks/job/next")).status_code == 403
        assert (await other.post("/schedules/preview", json={"schedule": NIGHTLY})).status_code == 403


async def test_a_once_in_the_past_is_warned_of(api: httpx2.AsyncClient, conn: Connection) -> None:
    """Preview, plan and answer of a new task say that it will not run; the ledger says that it was missed."""
    once = {"once": "2001-01-01T09:00:00"}
    seen = (await api.post("/schedules/preview", json={"schedule": once})).json()
    assert any("will not run" in text for text in seen["warnings"])
    answer = await api.post("/tasks", json=pipeline("late", schedule=once))
    assert answer.status_code == 201
    assert [each["code"] for each in answer.json()["warnings"]] == ["in_the_past"]
    (plan,) = (await api.post("/apply", json=[pipeline("late", schedule=once, title="x")])).json()["results"]
    assert [each["code"] for each in plan["warnings"]] == ["in_the_past"]
    lines = await rows(conn, "SELECT disposition, run_id FROM duework.occurrence")
    assert lines == [{"disposition": "missed", "run_id": None}]
