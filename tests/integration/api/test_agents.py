"""/agents: who may call, and their tokens."""

from __future__ import annotations

import httpx2
from starlette.applications import Starlette

from engine.db import Connection
from tests.factories import one
from tests.integration.api.clients import client

SYSTEM = "/agents/system-agent"


async def test_an_agent_with_a_token_may_what_its_scopes_say(app: Starlette, api: httpx2.AsyncClient) -> None:
    """Made, given a token that is shown once, and bounded by its scopes."""
    made = await api.post("/agents", json={"name": "reader", "scopes": ["task:read"]})
    assert made.status_code == 201
    assert "token" not in made.json()
    credential = await api.post(f"{made.headers['location']}/credentials", json={"label": "laptop"})
    assert credential.status_code == 201
    assert credential.headers["cache-control"] == "no-store"
    token = credential.json()["token"]
    async with client(app, {"Authorization": f"Bearer {token}"}) as reader:
        assert (await reader.get("/tasks")).status_code == 200
        refused = await reader.get("/runs")
        assert refused.status_code == 403
        assert refused.json()["details"] == {"scope": "run:read"}
        assert 'scope="run:read"' in refused.headers["www-authenticate"]
        assert (await reader.get("/agents/reader")).json()["name"] == "reader"
        assert (await reader.get(SYSTEM)).status_code == 403
        assert (await reader.get("/agents/nobody")).status_code == 403
    assert token not in (await api.get("/audit")).text
    assert token not in (await api.get("/agents/reader")).text


async def test_only_a_digest_of_a_token_is_kept(api: httpx2.AsyncClient, conn: Connection) -> None:
    """The token stands in no table."""
    await api.post("/agents", json={"name": "a"})
    token = (await api.post("/agents/a/credentials", json={"label": "of ada@example.com"})).json()["token"]
    rows = await one(conn, "SELECT string_agg(t::text, ' ') FROM duework.agent_token t")
    assert token not in rows
    assert "of [EMAIL]" in rows
    assert await one(conn, "SELECT count(*) FROM duework.idempotency_key") == 0


async def test_tokens_can_be_revoked_and_expire(
    app: Starlette, api: httpx2.AsyncClient, conn: Connection
) -> None:
    """All of an agent at once; a past expiry is refused; deactivation ends everything."""
    await api.post("/agents", json={"name": "a", "scopes": ["task:read"]})
    tokens = [(await api.post("/agents/a/credentials")).json()["token"] for _ in range(2)]
    assert (await api.delete("/agents/a/credentials")).json()["revoked"] == 2
    late = await api.post("/agents/a/credentials", json={"expires_at": "2999-01-01T00:00:00Z"})
    past = await api.post("/agents/a/credentials", json={"expires_at": "2020-01-01T00:00:00Z"})
    assert past.status_code == 422
    tokens.append(late.json()["token"])
    expected = [401, 401, 200]
    for token, status in zip(tokens, expected, strict=True):
        async with client(app, {"Authorization": f"Bearer {token}"}) as caller:
            assert (await caller.get("/tasks")).status_code == status
    await conn.execute("UPDATE duework.agent_token SET expires_at = now() WHERE expires_at IS NOT NULL")
    async with client(app, {"Authorization": f"Bearer {tokens[2]}"}) as caller:
        assert (await caller.get("/tasks")).status_code == 401
    assert (await api.delete("/agents/a")).status_code == 204
    assert (await api.get("/agents/a")).json()["active"] is False


async def test_agents_are_changed_and_listed(api: httpx2.AsyncClient) -> None:
    """Scopes, name, webhook and activity; PUT is PATCH; unknown scopes and taken names are refused."""
    await api.post("/agents", json={"name": "a"})
    await api.post("/agents", json={"name": "b"})
    changed = await api.patch("/agents/a", json={"scopes": ["run:read", "tool:http.*"], "name": "c"})
    assert (changed.json()["name"], changed.json()["scopes"]) == ("c", ["run:read", "tool:http.*"])
    assert (await api.put("/agents/c", json={"webhook_url": "https://example.org/h"})).status_code == 200
    assert [each["name"] for each in (await api.get("/agents")).json()["items"]] == ["b", "c", "system-agent"]
    assert (await api.post("/agents", json={"name": "b"})).status_code == 409
    assert (await api.patch("/agents/c", json={"name": "b"})).status_code == 409
    for body in (
        {"name": "x", "scopes": ["everything:always"]},
        {"name": "Not A Slug"},
        {"name": "x", "admin": True},
    ):
        assert (await api.post("/agents", json=body)).status_code == 422
    assert (await api.patch("/agents/nobody", json={})).status_code == 404


async def test_the_last_admin_stays(api: httpx2.AsyncClient) -> None:
    """Nobody can lock everybody out: 409 until there is another admin."""
    assert (await api.patch(SYSTEM, json={"scopes": []})).status_code == 409
    assert (await api.delete(SYSTEM)).status_code == 409
    await api.post("/agents", json={"name": "deputy", "scopes": ["admin"]})
    assert (await api.delete(SYSTEM)).status_code == 204
    assert (await api.get("/agents")).status_code == 401
