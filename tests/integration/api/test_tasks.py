"""/tasks: definitions in, tasks out, and what may be done to them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from psycopg.types.json import Jsonb

from engine.db import Connection
from tests.factories import one
from tests.integration.api.clients import pipeline

YAML = {"Content-Type": "application/yaml"}
DAILY: dict[str, Any] = {"schedule": {"cron": "0 9 * * *", "timezone": "Europe/Chisinau"}}


async def made(api: httpx2.AsyncClient, name: str = "job", **members: Any) -> dict[str, Any]:
    """A task, as it was answered."""
    response = await api.post("/tasks", json=pipeline(name, **members))
    assert response.status_code == 201, response.text
    task: dict[str, Any] = response.json()
    return task


async def test_a_definition_becomes_a_task(api: httpx2.AsyncClient) -> None:
    """201 with Location and ETag; the task is found there, by id and by name, and says the same."""
    response = await api.post(
        "/tasks", json=pipeline("report", title="Report", labels={"tier": "2"}, **DAILY)
    )
    assert response.status_code == 201
    task = response.json()
    found = await api.get(response.headers["location"])
    assert found.json() == task
    assert found.headers["etag"] == response.headers["etag"]
    assert (await api.get("/tasks/report")).json()["id"] == task["task_id"] == task["id"]
    assert task["state"] == task["status"] == "active"
    assert task["definition"]["schedule"] == DAILY["schedule"]
    assert datetime.fromisoformat(task["next_run"]) > datetime.now(UTC)


async def test_yaml_is_as_good_as_json(api: httpx2.AsyncClient) -> None:
    """A YAML body defines the same task; a fault in it is told with line and column."""
    head = "apiVersion: duework/v1\nkind: Pipeline\nname: y\nschedule: {every: 15m}\n"
    text = head + "steps:\n- {id: a, uses: core.echo}\n"
    assert (await api.post("/tasks", content=text, headers=YAML)).status_code == 201
    wrong = await api.post("/tasks", content=text.replace("uses", "use"), headers=YAML)
    assert wrong.status_code == 422
    first = wrong.json()["errors"][-1]
    assert (first["line"], first["pointer"]) == (6, "/steps/0/use")
    assert "did you mean .uses" in first["detail"].replace(chr(39), ".")


async def test_a_name_is_taken_once(api: httpx2.AsyncClient) -> None:
    """The second task of a name is a 409; without a name one is made of the title, and made unique."""
    await made(api, "report")
    assert (await api.post("/tasks", json=pipeline("report"))).status_code == 409
    unnamed = {key: value for key, value in pipeline(title="Grüße, Report!").items() if key != "name"}
    names = [(await api.post("/tasks", json=unnamed)).json()["name"] for _ in range(2)]
    assert names[0] == "grue-report"
    assert names[1].startswith("grue-report-")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"steps": [{"id": "a", "uses": "no.such"}]}, "unknown_tool"),
        ({"steps": [{"id": "a", "uses": "core.echo", "with": {"x": "${nowhere.y}"}}]}, "unknown_root"),
        ({"schedule": {"rrule": "FREQ=NEVER"}}, None),
        ({"schedule": {"cron": "* * * * *", "every": "5m"}}, "one_of"),
        ({"reflex": {"allow": ["shoe_size"]}}, "enum"),
        ({"params_schema": {"type": "object", "required": ["n"]}, **DAILY}, "missing"),
    ],
)
async def test_what_cannot_work_is_refused(
    api: httpx2.AsyncClient, change: dict[str, Any], code: str | None
) -> None:
    """422 with the place; nothing is stored."""
    response = await api.post("/tasks", json=pipeline(**change))
    assert response.status_code == 422, response.text
    assert code is None or code in [each["code"] for each in response.json()["errors"]]
    assert (await api.get("/tasks")).json()["items"] == []


async def test_a_name_is_taken_once_also_at_once(api: httpx2.AsyncClient) -> None:
    """Five callers at the same moment: one task, and four conflicts."""
    answers = await asyncio.gather(*(api.post("/tasks", json=pipeline("report")) for _ in range(5)))
    assert sorted(each.status_code for each in answers) == [201, 409, 409, 409, 409]


async def test_a_dry_run_changes_nothing(api: httpx2.AsyncClient) -> None:
    """It answers with the normalised definition and the next five instants, and stores nothing."""
    response = await api.post("/tasks?dry_run=true", json=pipeline(**DAILY))
    assert response.status_code == 200
    assert len(response.json()["next"]) == 5
    assert response.json()["definition"]["name"] == "job"
    assert (await api.get("/tasks/job")).status_code == 404
    assert (await api.get("/audit")).json()["items"] == []


async def test_a_task_that_has_not_changed_is_not_sent_again(api: httpx2.AsyncClient) -> None:
    """If-None-Match with the current ETag is a 304; after a pause the ETag is another."""
    await made(api)
    tag = (await api.get("/tasks/job")).headers["etag"]
    assert (await api.get("/tasks/job", headers={"If-None-Match": f'"x", {tag}'})).status_code == 304
    await api.post("/tasks/job/pause")
    assert (await api.get("/tasks/job", headers={"If-None-Match": tag})).status_code == 200


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_merge_patch_makes_a_new_version(api: httpx2.AsyncClient, method: str) -> None:
    """Members replace, null removes; the versions are kept, the newest first."""
    await made(api, description="old", priority=3)
    response = await api.request(method, "/tasks/job", json={"priority": 7, "description": None})
    assert response.status_code == 200, response.text
    assert (response.json()["priority"], response.json()["description"], response.json()["version"]) == (
        7,
        "",
        2,
    )
    kept = (await api.get("/tasks/job/versions")).json()["items"]
    assert [each["version"] for each in kept] == [2, 1]
    assert kept[1]["definition"]["priority"] == 3


async def test_a_whole_definition_replaces(api: httpx2.AsyncClient) -> None:
    """PUT with a document in either format leaves nothing of the old one; the same one is no new version."""
    await made(api, priority=3)
    replaced = await api.put("/tasks/job", json=pipeline(title="New"))
    assert (replaced.json()["priority"], replaced.json()["title"]) == (5, "New")
    assert (await api.put("/tasks/job", json=pipeline(title="New"))).json()["version"] == 2
    seed = {"title": "S", "schedule_kind": "manual", "payload": {"pipeline": [{"uses": "echo.message"}]}}
    assert (await api.put("/tasks/job", json=seed)).json()["title"] == "S"


async def test_a_stale_change_is_refused(api: httpx2.AsyncClient) -> None:
    """If-Match with the ETag of an older version is a 412, for a change, a state and a deletion."""
    first = (await made(api), (await api.get("/tasks/job")).headers["etag"])[1]
    assert (
        await api.patch("/tasks/job", json={"priority": 2}, headers={"If-Match": first})
    ).status_code == 200
    stale = {"If-Match": first}
    assert (await api.patch("/tasks/job", json={"priority": 1}, headers=stale)).status_code == 412
    assert (await api.post("/tasks/job/pause", headers=stale)).status_code == 412
    assert (await api.delete("/tasks/job", headers=stale)).status_code == 412
    assert (await api.patch("/tasks/job", json={}, headers={"If-Match": "what"})).status_code == 400
    assert (await api.get("/tasks/job")).json()["priority"] == 2


async def test_the_name_stays(api: httpx2.AsyncClient) -> None:
    """A patch of the name is refused, since apply goes by it."""
    await made(api)
    response = await api.patch("/tasks/job", json={"name": "other"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/name"


async def test_a_deleted_task_keeps_its_history(api: httpx2.AsyncClient) -> None:
    """204, then state canceled; it can be read, and not be run or changed."""
    await made(api)
    assert (await api.delete("/tasks/job")).status_code == 204
    assert (await api.get("/tasks/job")).json()["state"] == "canceled"
    assert (await api.delete("/tasks/job")).status_code == 204
    for call in (
        api.post("/tasks/job/run_now"),
        api.patch("/tasks/job", json={}),
        api.post("/tasks/job/resume"),
    ):
        assert (await call).status_code == 409


async def test_states_change_once(api: httpx2.AsyncClient) -> None:
    """Pausing twice is pausing once, also in the audit log; resuming brings the next instant back."""
    await made(api, **DAILY)
    for _ in range(2):
        paused = await api.post("/tasks/job/pause", json={"reason": "ask ada@example.com"})
        assert (paused.json()["state"], paused.json()["next_run"]) == ("paused", None)
    assert paused.json()["status_reason"] == "ask [EMAIL]"
    resumed = await api.post("/tasks/job/resume/")
    assert resumed.json()["state"] == "active"
    assert resumed.json()["next_run"]
    assert (await api.post("/tasks/job/cancel")).json()["state"] == "canceled"
    lines = [each["action"] for each in (await api.get("/audit")).json()["items"]]
    assert lines == ["task.canceled", "task.resumed", "task.paused", "task.created"]


async def test_snoozing_skips_to_a_moment(api: httpx2.AsyncClient) -> None:
    """By seconds or to an instant, exactly one of them; the past is refused, and a paused task."""
    await made(api, schedule={"every": "1m"})
    until = datetime.now(UTC) + timedelta(days=2)
    snoozed = await api.post("/tasks/job/snooze", json={"until": until.isoformat(), "reason": "holiday"})
    assert datetime.fromisoformat(snoozed.json()["next_run"]) >= until
    upcoming = (await api.get("/tasks/job/next?n=2")).json()["next"]
    assert datetime.fromisoformat(upcoming[0]) >= until
    assert (await api.post("/tasks/job/snooze", json={"delay_seconds": 60})).status_code == 200
    both = {"until": until.isoformat(), "delay_seconds": 5}
    assert (await api.post("/tasks/job/snooze", json=both)).status_code == 422
    assert (await api.post("/tasks/job/snooze", json={"until": "2020-01-01T00:00:00Z"})).status_code == 422
    assert (await api.post("/tasks/job/snooze")).status_code == 400
    await api.post("/tasks/job/pause")
    assert (await api.post("/tasks/job/snooze", json={"delay_seconds": 60})).status_code == 409


async def test_the_next_instants_are_shown(api: httpx2.AsyncClient) -> None:
    """As many as asked for, in words too."""
    await made(api, **DAILY)
    answer = (await api.get("/tasks/job/next", params={"n": 3})).json()
    assert len(answer["next"]) == 3
    assert answer["schedule"] == "every day at 09:00, Europe/Chisinau"
    assert (await api.get("/tasks/job/next?n=0")).status_code == 400
    await made(api, "by-hand")
    assert (await api.get("/tasks/by-hand/next")).json()["next"] == []


async def test_lists_are_filtered_and_paged(api: httpx2.AsyncClient) -> None:
    """Filters narrow; the pages of a cursor hold every task once; a cursor serves its own filters only."""
    for number in range(5):
        await made(api, f"job-{number}", labels={"tier": str(number % 2)}, **(DAILY if number else {}))
    await api.post("/tasks/job-4/pause")
    counts = {
        "status=paused": 1, "kind=manual": 1, "label=tier=0": 3, "q=JOB-3": 1, "set=none": 0, "offset=4": 1,
        "created_by=00000000-0000-0000-0000-000000000001": 5,
    }  # fmt: skip
    for query, count in counts.items():
        assert len((await api.get(f"/tasks?{query}")).json()["items"]) == count, query
    seen, cursor = [], None
    while True:
        page = (await api.get("/tasks", params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        seen += [each["name"] for each in page["items"]]
        cursor = page["next_cursor"]
        assert page["has_more"] is (cursor is not None)
        if cursor is None:
            break
        assert (await api.get("/tasks", params={"cursor": cursor, "status": "active"})).status_code == 400
    assert seen == [f"job-{number}" for number in range(5)]


async def test_a_task_that_is_not_there(api: httpx2.AsyncClient) -> None:
    """404 on each of its paths, by name or id."""
    for name in ("nobody", "00000000-0000-0000-0000-00000000dead"):
        for method, tail in [
            ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/run_now"), ("POST", "/pause"),
            ("POST", "/cancel"), ("GET", "/next"), ("GET", "/versions"),
        ]:  # fmt: skip
            body = {"priority": 1} if method == "PATCH" else None
            response = await api.request(method, f"/tasks/{name}{tail}", json=body)
            assert response.status_code == 404, (method, tail, response.text)


async def test_the_policy_below_the_floor_needs_its_scope(api: httpx2.AsyncClient, conn: Connection) -> None:
    """The admin may loosen the gate, and the audit log says that somebody did."""
    await made(api, reflex={"pii": "allow"})
    details = await one(conn, "SELECT details FROM duework.audit_log WHERE action = 'task.created'")
    assert details["loosened"] == ["pii"]


async def test_what_the_gate_refuses_is_not_stored(api: httpx2.AsyncClient, conn: Connection) -> None:
    """A definition with an address under the default policy is a 400 with kinds and places; only those stay."""
    steps = [{"id": "a", "uses": "core.echo", "with": {"to": "ada@example.com"}}]
    response = await api.post("/tasks", json=pipeline(steps=steps))
    assert response.status_code == 400
    problem = response.json()
    assert problem["code"] == "gate_blocked"
    assert problem["errors"][0]["pointer"] == "/steps/0/with/to"
    assert "ada@example.com" not in response.text
    kept = (await api.get("/verdicts")).json()["items"]
    assert [(each["tool"], each["direction"], each["action"]) for each in kept] == [
        ("POST /tasks", "door", "block")
    ]
    assert kept[0]["findings"][0]["kind"] == "email"
    everything = await one(conn, "SELECT string_agg(t::text, ' ') FROM duework.refusal t")
    assert "ada@example" not in everything


async def test_what_the_policy_redacts_is_stored_redacted(api: httpx2.AsyncClient, conn: Connection) -> None:
    """Under `pii: redact` the task is made, and the address stands nowhere."""
    steps = [{"id": "a", "uses": "core.echo", "with": {"to": "ada@example.com", "n": "${params.n}"}}]
    seed = {
        "title": "S", "schedule_kind": "manual",
        "payload": {"pipeline": [{"id": "a", "uses": "core.echo", "with": {"to": "ada@example.com"}}]},
    }  # fmt: skip
    task = await made(api, steps=steps, reflex={"pii": "redact"})
    assert task["definition"]["steps"][0]["with"] == {"to": "[EMAIL]", "n": "${params.n}"}
    refused = await api.post("/tasks", json=seed)
    assert refused.json()["errors"][0]["pointer"] == "/payload/pipeline/0/with/to"
    text = await one(conn, "SELECT string_agg(v::text, ' ') FROM duework.task_version v")
    assert "ada@" not in text


async def test_a_stored_version_is_what_a_run_names(api: httpx2.AsyncClient, conn: Connection) -> None:
    """The latest run's result, error and time stand in the task, as the second seed reads them."""
    task = await made(api)
    run = (await api.post("/tasks/job/run_now")).json()
    await conn.execute("DELETE FROM duework.due_work")
    await conn.execute(
        "INSERT INTO duework.task_run (run_id, attempt, task_id, task_version, trigger, status, final,"
        " started_at, finished_at, error) VALUES (%s, 1, %s, 1, 'run_now', 'failed', true,"
        " now() - interval '20 ms', now(), %s)",
        [run["run_id"], task["id"], Jsonb({"code": "rejected", "message": "no"})],
    )
    shown = (await api.get("/tasks/job")).json()
    assert (shown["error"], shown["processing_time_ms"], shown["result"]) == ("no", 20, None)
    assert shown["latest_run"]["run_id"] == run["run_id"]
