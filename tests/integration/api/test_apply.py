"""POST /apply and POST /schedules/preview."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from engine.db import Connection
from tests.factories import one
from tests.integration.api.clients import pipeline

YAML = {"Content-Type": "application/yaml"}
TWO = """
apiVersion: duework/v1
kind: Pipeline
name: first
schedule: {every: 10m}
steps: [{id: a, uses: core.echo}]
---
apiVersion: duework/v1
kind: Pipeline
name: second
schedule: {event: {topic: "mail.*", filter: "payload.n > `1`"}}
steps: [{id: a, uses: core.echo}]
"""


def outcome(response: httpx2.Response) -> dict[str, str]:
    """name → result."""
    assert response.status_code == 200, response.text
    return {each["name"]: each["result"] for each in response.json()["results"]}


async def test_applying_twice_changes_nothing(api: httpx2.AsyncClient, conn: Connection) -> None:
    """Created, then unchanged, then changed where a document says something else; versions follow."""
    first = await api.post("/apply?set=mail", content=TWO, headers=YAML)
    assert outcome(first) == {"first": "created", "second": "created"}
    assert len(first.json()["results"][0]["next"]) == 5
    assert outcome(await api.post("/apply?set=mail", content=TWO, headers=YAML)) == {
        "first": "unchanged",
        "second": "unchanged",
    }
    edited = await api.post("/apply?set=mail", content=TWO.replace("10m", "20m"), headers=YAML)
    assert outcome(edited) == {"first": "changed", "second": "unchanged"}
    assert edited.json()["counts"] == {"created": 0, "changed": 1, "unchanged": 1, "removed": 0}
    assert await one(conn, "SELECT array_agg(version ORDER BY name) FROM duework.task") == [2, 1]


async def test_reapplying_never_re_anchors(api: httpx2.AsyncClient, conn: Connection) -> None:
    """A rule without start keeps the anchor of its first day, whatever else is edited."""
    document = pipeline(schedule={"every": "7m"})
    await api.post("/apply", json=document)
    anchor = await one(conn, "SELECT schedule_start FROM duework.task")
    assert anchor is not None
    await conn.execute("UPDATE duework.task SET schedule_start = schedule_start - interval '3 minutes'")
    assert outcome(await api.post("/apply", json=document | {"priority": 2})) == {"job": "changed"}
    moved = await one(conn, "SELECT %s - schedule_start = interval '3 minutes' FROM duework.task", anchor)
    assert moved


async def test_one_bad_document_and_nothing_is_written(api: httpx2.AsyncClient, conn: Connection) -> None:
    """422 with the faults of every document, each led by the document's number."""
    documents = [pipeline("good"), pipeline("bad", steps=[]), pipeline("worse", schedule={"cron": "x"})]
    response = await api.post("/apply", json=documents)
    assert response.status_code == 422
    assert {each["pointer"].split("/")[1] for each in response.json()["errors"]} == {"1", "2"}
    assert await one(conn, "SELECT count(*) FROM duework.task") == 0


async def test_a_schedule_that_is_over_is_refused_in_its_place(api: httpx2.AsyncClient) -> None:
    """What fires from 1970 may not from the day on which it is stored: 422 with the place, for every document."""
    over = {"rrule": "FREQ=DAILY;UNTIL=20200101T000000Z"}
    seed = {
        "title": "old", "schedule_kind": "rrule", "schedule_expr": over["rrule"],
        "payload": {"pipeline": [{"uses": "core.echo"}]},
    }  # fmt: skip
    alone = await api.post("/apply", json=pipeline(schedule=over))
    assert (alone.status_code, alone.json()["errors"][0]["pointer"]) == (422, "/schedule/rrule")
    several = await api.post("/apply", json=[pipeline("z", schedule=over), pipeline("b"), seed])
    assert several.status_code == 422
    places = [(each["pointer"], each["code"]) for each in several.json()["errors"]]
    assert places == [("/0/schedule/rrule", "never_fires"), ("/2/schedule_expr", "never_fires")]
    asked = {name: seed[name] for name in ("schedule_kind", "schedule_expr")}
    preview = await api.post("/schedules/preview", json=asked)
    assert (preview.status_code, preview.json()["errors"][0]["pointer"]) == (422, "/schedule_expr")
    assert (await api.get("/tasks")).json()["items"] == []


async def test_a_dry_run_says_what_would_happen(api: httpx2.AsyncClient, conn: Connection) -> None:
    """The plan is worked out in full and taken back."""
    await api.post("/apply?set=s", json=[pipeline("keep"), pipeline("drop")])
    plan = await api.post(
        "/apply?set=s&prune=true&dry_run=1", json=[pipeline("keep", priority=1), pipeline("new")]
    )
    assert outcome(plan) == {"keep": "changed", "new": "created", "drop": "removed"}
    assert plan.json()["dry_run"] is True
    assert await one(conn, "SELECT array_agg(name || version || status ORDER BY name) FROM duework.task") == [
        "drop1active",
        "keep1active",
    ]


async def test_pruning_cancels_what_is_no_longer_named(api: httpx2.AsyncClient) -> None:
    """Only of its own set; and a document that comes back brings its task back."""
    await api.post("/apply?set=s", json=[pipeline("keep"), pipeline("drop")])
    await api.post("/apply?set=other", json=[pipeline("far")])
    await api.post("/tasks", json=pipeline("free"))
    pruned = await api.post("/apply?set=s&prune=true", json=[pipeline("keep")])
    assert outcome(pruned) == {"keep": "unchanged", "drop": "removed"}
    states = {each["name"]: each["state"] for each in (await api.get("/tasks")).json()["items"]}
    assert states == {"keep": "active", "drop": "canceled", "far": "active", "free": "active"}
    assert outcome(await api.post("/apply?set=s", json=[pipeline("drop")])) == {"drop": "changed"}
    assert (await api.get("/tasks/drop")).json()["state"] == "active"
    assert (await api.post("/apply?prune=true", json=[pipeline("keep")])).status_code == 422


async def test_a_task_belongs_to_one_set(api: httpx2.AsyncClient) -> None:
    """Another set's task is a 409; one without a set is taken over."""
    await api.post("/apply?set=s", json=pipeline())
    assert (await api.post("/apply?set=t", json=pipeline(priority=1))).status_code == 409
    await api.post("/tasks", json=pipeline("free"))
    assert outcome(await api.post("/apply?set=t", json=pipeline("free"))) == {"free": "changed"}
    assert (await api.get("/tasks/free")).json()["set"] == "t"


async def test_documents_are_known_by_their_names(api: httpx2.AsyncClient) -> None:
    """Twice the same name, or none at all, is refused; a seed's title makes its name, the same each time."""
    assert (await api.post("/apply", json=[pipeline(), pipeline()])).status_code == 422
    nameless = {key: value for key, value in pipeline().items() if key != "name"}
    assert (await api.post("/apply", json=[nameless])).status_code == 422
    assert (await api.post("/apply", content="", headers=YAML)).status_code == 400
    seed = {
        "title": "Old Task",
        "schedule_kind": "manual",
        "payload": {"pipeline": [{"uses": "echo.message"}]},
    }
    assert outcome(await api.post("/apply", json=seed)) == {"old-task": "created"}
    assert outcome(await api.post("/apply", json=seed)) == {"old-task": "unchanged"}


async def test_a_key_applies_once(api: httpx2.AsyncClient) -> None:
    """The first answer again, though the second time everything would be unchanged."""
    key = {"Idempotency-Key": "deploy-7"}
    first = await api.post("/apply", json=pipeline(), headers=key)
    assert (
        outcome(await api.post("/apply", json=pipeline(), headers=key))
        == outcome(first)
        == {"job": "created"}
    )


async def test_overlapping_applies_wait_for_each_other(api: httpx2.AsyncClient, conn: Connection) -> None:
    """In opposite orders and at the same moment: no deadlock, and each change is a version of its own."""
    names = [f"job-{number}" for number in range(6)]
    await api.post("/apply", json=[pipeline(name) for name in names])

    async def change(order: list[str], priority: int) -> httpx2.Response:
        return await api.post("/apply", json=[pipeline(name, priority=priority) for name in order])

    answers = await asyncio.gather(change(names, 1), change(names[::-1], 2), change(names, 3))
    assert [each.status_code for each in answers] == [200, 200, 200]
    assert await one(conn, "SELECT array_agg(DISTINCT version) FROM duework.task") == [4]
    assert await one(conn, "SELECT count(DISTINCT priority) FROM duework.task") == 1


async def test_warnings_come_with_the_result(api: httpx2.AsyncClient) -> None:
    """A cron line whose days are joined by "or" is legal, and said to be seldom meant."""
    response = await api.post("/apply", json=pipeline(schedule={"cron": "0 9 13 * 5"}))
    assert response.json()["results"][0]["warnings"], response.text


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"schedule": {"cron": "30 8 * * 1-5", "timezone": "Europe/Chisinau"}}, "every weekday at 08:30"),
        ({"schedule_kind": "rrule", "schedule_expr": "FREQ=DAILY;BYHOUR=7;BYMINUTE=0"}, "every day at 07:00"),
        ({"schedule": {"every": "90s"}}, "every 90s"),
        ({"schedule": {"event": {"topic": "a.*"}}}, "on every event that matches a.*"),
    ],
)
async def test_a_schedule_can_be_tried(api: httpx2.AsyncClient, asked: dict[str, Any], words: str) -> None:
    """In words, with its next instants after a moment, in either format."""
    response = await api.post("/schedules/preview", json=asked | {"n": 3, "after": "2026-03-28T12:00:00Z"})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["schedule"].startswith(words)
    assert len(answer["next"]) == (0 if answer["kind"] == "event" else 3)


async def test_a_schedule_that_cannot_be_is_refused(api: httpx2.AsyncClient) -> None:
    """422 with the place; one form of the two must be given."""
    wrong = await api.post("/schedules/preview", json={"schedule": {"cron": "61 * * * *"}})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/schedule/cron")
    assert (await api.post("/schedules/preview", json={"n": 3})).status_code == 422
    assert (
        await api.post("/schedules/preview", json={"schedule": {"manual": True}, "schedule_kind": "manual"})
    ).status_code == 422
