"""The API examples of the seeds, as they are written there, against a real worker."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx2
import pytest
from starlette.applications import Starlette

from api import main
from engine import telemetry
from engine.errors import StoreUnavailable
from tests.integration.api.clients import SYSTEM, client
from tests.processes import Crew


async def test_create_and_execute_task(api: httpx2.AsyncClient, crew: Crew) -> None:
    """Seed 003, "Integration Test Example": created, run now, and then its result is there."""
    task_data = {
        "title": "Test Task",
        "description": "Integration test task",
        "schedule_kind": "once",
        "schedule_expr": datetime.now(UTC).isoformat(),
        "payload": {"pipeline": [{"id": "echo", "uses": "echo.message", "with": {"text": "test"}}]},
        "created_by": "00000000-0000-0000-0000-000000000001",
    }
    response = await api.post("/tasks", json=task_data, headers=SYSTEM)
    assert response.status_code == 201
    task_id = response.json()["id"]
    response = await api.post(f"/tasks/{task_id}/run_now", headers=SYSTEM)
    assert response.status_code == 200
    assert response.json()["success"] is True
    await crew.worker()
    done = await api.post(f"/tasks/{task_id}/run_now", headers={"Prefer": "wait=30"}, timeout=40)
    assert (done.json()["status"], done.json()["success"]) == ("succeeded", True)
    run = (await api.get(done.headers["location"])).json()
    assert run["steps"][0]["output"] == {"text": "test"}
    assert (await api.get(f"/runs/task/{task_id}/latest")).json()["id"] == run["id"]


async def test_task_status_of_the_second_seed(api: httpx2.AsyncClient) -> None:
    """Seed 004, GET /tasks/{task_id}: its members are all there."""
    seed = {"title": "t", "schedule_kind": "manual", "payload": {"pipeline": [{"uses": "echo.message"}]}}
    task_id = (await api.post("/tasks", json=seed)).json()["task_id"]
    task = (await api.get(f"/tasks/{task_id}")).json()
    members = [
        "task_id",
        "status",
        "goal",
        "result",
        "error",
        "created_at",
        "updated_at",
        "processing_time_ms",
    ]
    assert set(members) <= set(task)


async def test_health_ready_and_root_of_the_second_seed(app: Starlette) -> None:
    """Seed 004: the members of /health, /ready and /."""
    async with client(app) as api:
        assert {"status", "timestamp", "version"} <= set((await api.get("/health")).json())
        ready = (await api.get("/ready")).json()
        assert {"ready", "checks", "timestamp"} <= set(ready)
        assert {"database", "reflex_layer"} <= set(ready["checks"])
        links = (await api.get("/")).json()
        assert {"service", "version", "docs", "health", "ready", "metrics"} <= set(links)
        below = await api.get("/v1")
        assert below.json()["health"] == "/v1/health"
        for name in ("docs", "health", "metrics", "openapi"):
            assert (await api.get(links[name])).status_code == 200


async def test_the_error_format_of_the_second_seed(api: httpx2.AsyncClient) -> None:
    """Seed 004: error, request_id, details."""
    problem = (await api.get("/tasks/nobody")).json()
    assert {"error", "request_id", "details"} <= set(problem)


async def test_the_module_has_an_app(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    """`from api.main import app`, configured by the environment, when it is asked for and not before."""
    monkeypatch.setattr(telemetry, "configure", lambda *_: None)
    monkeypatch.setenv("DATABASE_URL", database_url)
    app = main.app
    async with app.router.lifespan_context(app), client(app) as api:
        assert (await api.get("/health")).status_code == 200
    monkeypatch.setenv("DATABASE_URL", "embedded")
    embedded = main.app
    with pytest.raises(StoreUnavailable, match="duework up"):
        async with embedded.router.lifespan_context(embedded):
            pass
    with pytest.raises(AttributeError):
        _ = main.nothing
