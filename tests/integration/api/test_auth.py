"""Who may call what: every operation, its scope, and the development token."""

from __future__ import annotations

from dataclasses import replace

import httpx2
import pytest
from starlette.applications import Starlette

from api.operations import Operation
from api.routes import operations
from engine.errors import Conflict
from engine.settings import Settings
from engine.store import agents
from ops import embedded
from tests.integration.api.clients import SYSTEM, client, pipeline, running, token_for

GUARDED = [each for each in operations() if not each.open]
ALL_SCOPES = [*agents.SCOPES, "tool:*"]


async def call(api: httpx2.AsyncClient, operation: Operation) -> httpx2.Response:
    """A request that gets past authorisation, and seldom further."""
    path = operation.path.replace("{id}", "00000000-0000-0000-0000-00000000dead").replace("{address}", "none")
    return await api.request(operation.method, path)


async def test_without_credentials_nothing_is_told(app: Starlette) -> None:
    """Every guarded operation is a 401 with a challenge: without a header, with a wrong scheme, token or agent."""
    for headers in (
        {},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer dw_unknown"},
        {"Authorization": "Bearer"},
    ):
        async with client(app, headers) as api:
            for operation in GUARDED:
                response = await call(api, operation)
                assert response.status_code == 401, operation.label
                assert response.headers["www-authenticate"].startswith("Bearer")


async def test_every_operation_wants_its_own_scope(app: Starlette) -> None:
    """With every scope but that one it is a 403; with that one alone it is not."""
    for scope in sorted({operation.scope for operation in GUARDED if operation.scope}):
        held = [each for each in ALL_SCOPES if each not in (scope, "admin")]
        without, only = (
            await token_for(app, *held, name=f"no-{scope.replace(':', '.')}"),
            await token_for(app, scope, name=f"only-{scope.replace(':', '.')}"),
        )
        async with client(app, without) as lacking, client(app, only) as holding:
            for operation in [each for each in GUARDED if each.scope == scope]:
                assert (await call(lacking, operation)).status_code == 403, operation.label
                assert (await call(holding, operation)).status_code not in (401, 403), operation.label


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:8080"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "[broken"},
    ],
    ids=["host", "origin", "opaque origin", "no host at all"],
)
async def test_a_web_page_cannot_use_the_development_token(app: Starlette, headers: dict[str, str]) -> None:
    """A page whose name was pointed at this host (DNS rebinding) sends that name, and is refused."""
    async with client(app, {"Authorization": "Bearer system-agent"}) as api:
        assert (await api.get("/tasks")).status_code == 200
        assert (await api.get("/tasks", headers={"Origin": "http://localhost:8080"})).status_code == 200
        assert (await api.get("/tasks", headers=headers)).status_code == 401


async def test_a_definition_needs_the_scopes_of_its_tools(app: Starlette, api: httpx2.AsyncClient) -> None:
    """Harmless builtins ask for none; http.get asks for its own; `tool:http.*` and admin hold it."""
    steps = [{"id": "get", "uses": "http.get", "with": {"url": "https://example.org"}}]
    author = await token_for(app, "task:write", name="author")
    weaver = await token_for(app, "task:write", "tool:http.*", name="weaver")
    async with client(app, author) as one, client(app, weaver) as two:
        assert (await one.post("/tasks", json=pipeline("echo"))).status_code == 201
        refused = await one.post("/tasks", json=pipeline(steps=steps))
        assert (refused.status_code, refused.json()["details"]) == (403, {"scope": "tool:http.get"})
        assert (await one.post("/apply", json=pipeline(steps=steps))).status_code == 403
        assert (await one.patch("/tasks/echo", json={"steps": steps})).status_code == 403
        assert (await two.post("/tasks", json=pipeline(steps=steps))).status_code == 201


async def test_loosening_the_gate_needs_its_scope(app: Starlette) -> None:
    """Below the operator's floor, for the task or one step: 403 without reflex:loosen."""
    steps = [{"id": "a", "uses": "core.echo", "reflex": {"allow": ["email"]}}]
    looser = [
        pipeline("a", reflex={"pii": "flag"}),
        pipeline("b", reflex={"injection": "flag"}),
        pipeline("c", steps=steps),
    ]
    async with client(app, await token_for(app, "task:write", name="author")) as author:
        for definition in looser:
            refused = await author.post("/tasks", json=definition)
            assert (refused.status_code, refused.json()["details"]) == (403, {"scope": "reflex:loosen"})
        assert (await author.post("/tasks", json=pipeline(reflex={"pii": "redact"}))).status_code == 201
    async with client(app, await token_for(app, "task:write", "reflex:loosen", name="trusted")) as trusted:
        for definition in looser:
            assert (await trusted.post("/tasks", json=definition)).status_code == 201


async def test_only_an_admin_defines_for_others(app: Starlette) -> None:
    """The seed's created_by is oneself, or whoever an admin says."""
    seed = {
        "title": "t", "schedule_kind": "manual", "payload": {"pipeline": [{"uses": "core.echo"}]},
        "created_by": str(agents.SYSTEM_AGENT),
    }  # fmt: skip
    async with client(app, await token_for(app, "task:write")) as author:
        assert (await author.post("/tasks", json=seed)).status_code == 403
        assert (await author.post("/tasks", json=seed | {"created_by": "me"})).status_code == 422


@pytest.mark.parametrize(
    ("environment", "peer", "headers", "status"),
    [
        ("development", "127.0.0.1", {}, 200),
        ("development", "::1", {}, 200),
        ("development", "::ffff:127.0.0.1", {}, 200),
        ("development", "192.0.2.7", {}, 401),
        ("development", "testclient", {}, 401),
        ("development", "127.0.0.1", {"X-Forwarded-For": "192.0.2.7"}, 401),
        ("development", "127.0.0.1", {"Forwarded": "for=192.0.2.7"}, 401),
        ("production", "127.0.0.1", {}, 401),
        ("staging", "127.0.0.1", {}, 401),
    ],
)
async def test_the_development_token_works_in_development_only(
    settings: Settings, environment: str, peer: str, headers: dict[str, str], status: int
) -> None:
    """Development mode, an embedded database, a server and a client on loopback, and no proxy between."""
    async with (
        running(replace(settings, environment=environment)) as app,
        client(app, SYSTEM | headers, peer=(peer, 1)) as api,
    ):
        assert (await api.get("/tasks")).status_code == status


async def test_the_development_token_needs_the_embedded_database(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server of any other name it is just a wrong token."""
    assert agents.EMBEDDED_CLUSTER == embedded.CLUSTER_NAME
    monkeypatch.setattr(agents, "EMBEDDED_CLUSTER", "somebody-elses")
    async with running(settings) as app, client(app, SYSTEM) as api:
        assert (await api.get("/tasks")).status_code == 401


async def test_an_open_address_needs_credentials(settings: Settings) -> None:
    """Without any token the API does not come up on a host that others reach; and there the word is no token."""
    open_to_all = replace(settings, host="0.0.0.0")
    with pytest.raises(Conflict, match=r"DUEWORK_HOST"):
        async with running(open_to_all):
            pass
    async with running(settings) as app:
        await token_for(app, "task:read")
    async with running(open_to_all) as app, client(app, SYSTEM) as api:
        assert (await api.get("/tasks")).status_code == 401
