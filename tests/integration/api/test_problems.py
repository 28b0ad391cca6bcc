"""Errors: one shape for all of them, whoever refuses."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs

from api import schemas
from api.operations import Operation
from api.routes import operations
from engine.store import tasks
from tests.integration.api.clients import SYSTEM, client, pipeline

MEMBERS = {
    "type", "title", "status", "detail", "instance", "code", "request_id", "errors", "error", "message",
    "timestamp", "details",
}  # fmt: skip


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The problem, once its shape is right."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    found: dict[str, Any] = response.json()
    assert set(found) == MEMBERS
    assert (found["status"], found["code"]) == (status, code)
    assert found["request_id"] == response.headers["x-request-id"]
    assert found["detail"] == found["message"]
    return found


async def test_what_the_framework_refuses_has_the_same_shape(api: httpx2.AsyncClient) -> None:
    """Unknown paths and methods, media types, sizes."""
    assert problem(await api.get("/nowhere"), 404, "not_found")["instance"] == "/nowhere"
    wrong = await api.request("PATCH", "/tasks")
    problem(wrong, 405, "method_not_allowed")
    assert sorted(wrong.headers["allow"].split(", ")) == ["GET", "HEAD", "POST"]
    problem(await api.get("/tasks", headers={"Accept": "text/html"}), 406, "not_acceptable")
    problem(await api.get("/tasks", headers={"Accept": "application/json;q=0"}), 406, "not_acceptable")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    problem(await api.post("/tasks", content="a=b", headers=form), 415, "unsupported_media_type")


async def test_a_body_that_is_too_large_is_not_read(app: Starlette) -> None:
    """413 by the announced length, and by what comes when nothing was announced."""
    limit = app.state.resources.settings.max_body_bytes

    async def endless() -> Any:
        while True:
            yield b" " * 65_536

    async with client(app, SYSTEM) as api:
        problem(await api.post("/tasks", content=b" " * (limit + 1)), 413, "too_large")
        problem(await api.post("/tasks", content=endless()), 413, "too_large")


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[1,", b"{'a': 1}", b"\xff\xfe", b'{"name": "\\ud800"}', b'{"a": NaN}', b'{"a": 1e999}',
        b'{"a": 1, "a": 2}', b"[" * 5_000, b'{"a": ' * 200 + b"1" + b"}" * 200, b"",
    ],
)  # fmt: skip
async def test_what_is_no_json_is_refused(api: httpx2.AsyncClient, body: bytes) -> None:
    """400 or 422 with a place, whatever comes; never a 500."""
    for path in ("/tasks", "/events", "/agents", "/schedules/preview"):
        response = await api.post(path, content=body, headers={"Content-Type": "application/json"})
        assert response.status_code in (400, 422), (path, response.text)


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [id]",
        "a: &a [*a]",
        "&a a: &b [" + "*b," * 9 + "]",
        "a: b: c",
        "\t- x",
        "%YAML 9.9\n--- {}",
    ],
)
async def test_yaml_cannot_do_more_than_json(api: httpx2.AsyncClient, text: str) -> None:
    """Tags, aliases of themselves and broken texts are 400 or 422."""
    response = await api.post("/apply", content=text, headers={"Content-Type": "application/yaml"})
    assert response.status_code in (400, 422), response.text


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "out_of_range"),
        ("limit=many", "bad_parameter"),
        ("limit=1&limit=2", "bad_parameter"),
        ("limt=5", "unknown_parameter"),
        ("status=sleeping", "not_allowed"),
        ("q=%00", "bad_parameter"),
        ("created_by=me", "wrong_form"),
        ("cursor=abc", "bad_cursor"),
        ("cursor=WyJ4Il0", "bad_cursor"),
        ("cursor=%F0%9F%92%A9", "bad_cursor"),
        ("offset=99999999999999999999", "bad_parameter"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(api: httpx2.AsyncClient, query: str, code: str) -> None:
    """400 that names the parameter; a misspelt one is not ignored."""
    found = problem(await api.get(f"/tasks?{query}"), 400, "malformed")
    assert found["errors"][0]["code"] == code


async def test_an_instant_needs_an_offset(api: httpx2.AsyncClient) -> None:
    """A naive one is a 400; an unescaped plus, which arrives as a space, is understood."""
    problem(await api.get("/runs?since=2026-01-01T00:00:00"), 400, "malformed")
    assert (await api.get("/runs?since=2026-01-01T00:00:00+02:00")).status_code == 200
    problem(await api.get("/runs?since=yesterday"), 400, "malformed")


NASTY: list[Any] = [
    None, 0, -1, 10**30, 1.5, True, "", "x" * 3000, "\u0000", "\u202e", "${params.x}", "'; DROP TABLE x; --", [], [[]],
    {}, {"": ""}, {"a": {"b": {"c": [1, {"d": None}]}}}, "2016-12-31T23:59:60Z", "9999-12-31T23:59:59.999999999z",
    "0001-01-01t00:00:00+14:00",
]  # fmt: skip
BODIES = [each for each in operations() if each.body]


def members_of(operation: Operation) -> list[str]:
    """The member names of an operation's body, as its schema has them."""
    schema = schemas.components()[str(operation.body)]
    forms = [schema, *(schemas.components()[name] for name in schemas.references(schema))]
    return sorted({name for form in forms for name in form.get("properties", {})}) or ["anything"]


@pytest.mark.parametrize("operation", BODIES, ids=lambda each: each.label)
async def test_no_body_breaks_an_operation(api: httpx2.AsyncClient, operation: Operation) -> None:
    """Every member of every body with every strange value, and strange values as the body: never a 500."""
    await api.post("/tasks", json=pipeline("x", schedule={"every": "1h"}))
    path = operation.path.replace("/agents/{id}", "/agents/system-agent").replace("{id}", "x")
    valid = {
        "name": "n",
        "topic": "t",
        "text": "t",
        "scopes": ["admin"],
        "delay_seconds": 5,
        "schedule_kind": "manual",
    }
    names = members_of(operation)
    if operation.definitions and operation.label != "POST /tasks":
        names = []  # all definitions take the same way in
    around = {name: value for name, value in valid.items() if name in names}
    bodies = [*NASTY, *({**around, name: value} for name in names for value in NASTY)]
    for body in bodies:
        response = await api.request(operation.method, path, json=body)
        assert response.status_code < 500, (body, response.text)
        if operation.label == "PATCH /agents/{id}" and response.status_code == 200:
            await api.patch(path, json={"name": "system-agent", "active": True})


async def test_no_query_breaks_an_operation(api: httpx2.AsyncClient) -> None:
    """Every query parameter with every strange text: never a 500."""
    await api.post("/tasks", json=pipeline("x", schedule={"every": "1h"}))
    texts = [*map(str, NASTY), "-0", "٣", "1e3", "a=b=c", "%", "\x7f"]
    for operation in (each for each in operations() if each.method == "GET" and not each.open):
        path = operation.path.replace("{id}", "x").replace("{address}", "core.echo")
        for name in [each.name for each in operation.query] or ["any"]:
            for text in texts:
                response = await api.get(path, params={name: text})
                assert response.status_code < 500, (path, name, text, response.text)


async def test_a_number_without_end_is_refused(api: httpx2.AsyncClient) -> None:
    """Thousands of digits are a 400 or 422, not a defect."""
    for body in (
        b'{"topic": "a", "payload": {"n": %s}}' % (b"9" * 6000),
        b'{"params": {"n": -%s}}' % (b"1" * 5000),
    ):
        for path in ("/events", "/tasks/x/run_now"):
            response = await api.post(path, content=body, headers={"Content-Type": "application/json"})
            assert response.status_code in (400, 404, 422), response.text


async def test_a_request_keeps_its_id(api: httpx2.AsyncClient) -> None:
    """A given one is echoed when it is harmless, else replaced."""
    assert (await api.get("/health", headers={"X-Request-ID": "trace-1:a/b"})).headers[
        "x-request-id"
    ] == "trace-1:a/b"
    for bad in ("a b", "x" * 129, "-", "{}", '"', "ada@example.com", "078-05-1120"):
        assert (
            (await api.get("/health", headers={"X-Request-ID": bad}))
            .headers["x-request-id"]
            .startswith("req-")
        )


async def test_no_personal_data_in_errors(api: httpx2.AsyncClient) -> None:
    """What the caller wrote comes back masked, also from the path."""
    response = await api.get("/tasks/ada@example.com")
    assert response.status_code == 404
    assert "ada@example.com" not in response.text
    assert "[EMAIL]" in response.json()["detail"]
    await api.post("/tasks", json=pipeline())
    wrong = await api.post("/tasks/job/pause", json={"ada@example.com": 1})
    assert (wrong.status_code, "ada@example.com" in wrong.text) == (422, False)


@pytest.mark.parametrize(
    "path", ["/tasks/a%00b", "/tasks/%FF", "/tools/..%2f..%2fetc", "/schemas/../x", "/tasks/" + "x" * 5000]
)
async def test_strange_paths_are_just_not_there(api: httpx2.AsyncClient, path: str) -> None:
    """404 or 400, never a 500."""
    assert (await api.get(path)).status_code in (400, 404)


async def test_a_defect_tells_nothing_and_is_logged_once(
    app: Starlette, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 with the request id; the log has the exception, and the request's own line its status."""

    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret internals")

    monkeypatch.setattr(tasks, "get", broken)
    with capture_logs() as logs:
        async with client(app, SYSTEM) as api:
            found = problem(await api.get("/tasks/x"), 500, "internal_error")
    assert "secret internals" not in str(found)
    assert [(each["event"], each["log_level"]) for each in logs] == [
        ("api.failed", "error"),
        ("api.request", "info"),
    ]
    assert logs[1]["status"] == 500


async def test_every_request_is_one_log_line(app: Starlette) -> None:
    """With route, status, agent; the request id is bound for whatever else is logged."""
    with capture_logs() as logs:
        async with client(app, SYSTEM) as api:
            await api.get("/v1/tasks/ada@example.com/")
    assert [(each["event"], each["route"], each["status"], each["agent"]) for each in logs] == [
        ("api.request", "/tasks/{id}", 404, "system-agent")
    ]


async def test_answers_are_hardened(api: httpx2.AsyncClient) -> None:
    """No sniffing, no caching of what is somebody's, and a page that may load nothing."""
    response = await api.get("/tasks")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    page = await api.get("/docs", headers={"Accept": "text/html"})
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
