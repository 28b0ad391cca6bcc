"""/health, /ready and /metrics: for those who watch over the process. They need no credentials."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import psycopg
from starlette.requests import Request
from starlette.responses import Response

from api.operations import OpenHandler, Operation, Resources
from api.rendering import instant, to_json
from engine import db, reflex
from engine.errors import GateUnavailable, StoreUnavailable
from engine.gate.client import CANARY
from engine.store import health, limits, waits, workers

OPEN = MappingProxyType({"closed": 0.0, "half_open": 0.5, "open": 1.0})
"""What the metric of a breaker says."""
PATIENCE = 3
"""Seconds that a check waits for the database."""


async def alive(request: Request) -> Response:
    """The process serves requests; nothing else is asked."""
    return _json({"status": "healthy", "timestamp": _now(), "version": request.app.state.resources.version})


async def ready(request: Request) -> Response:
    """Whether the process can do its work: each check by name."""
    resources: Resources = request.app.state.resources
    checks = {"database": False, "migrations": False, "scheduler": False}
    checks["reflex_layer"] = await _gate_works(resources)
    try:
        async with asyncio.timeout(PATIENCE), db.transaction(resources.pool) as conn:
            checks["migrations"] = await health.revision(conn) == resources.schema_head
            checks["database"] = True
            if checks["migrations"]:
                checks["scheduler"] = (await workers.queue_state(conn))["ticking"]
    except (StoreUnavailable, psycopg.Error, TimeoutError):
        checks["database"] = False
    fit = all(checks.values())
    headers = {} if fit else {"Retry-After": "5"}
    gate = {"source": "in_process", "breaker": "closed"}
    if resources.gate is not None:
        gate = {"source": "remote", "breaker": resources.gate.state}
    body = {"ready": fit, "checks": checks, "gate": gate, "timestamp": _now(), "version": resources.version}
    return _json(body, 200 if fit else 503, headers)


async def metrics(request: Request) -> Response:
    """Prometheus' text format; the gauges of the queue are read at this moment."""
    resources: Resources = request.app.state.resources
    if resources.gate is not None:
        resources.metrics.gate_breaker.set(OPEN[resources.gate.state])
    try:
        async with asyncio.timeout(PATIENCE), db.transaction(resources.pool) as conn:
            state, waiting = await workers.queue_state(conn), await waits.counts(conn)
            breakers = await limits.breakers(conn)
    except (StoreUnavailable, psycopg.Error, TimeoutError):
        pass  # a scrape without the queue's gauges is better than none
    else:
        nothing = timedelta(0)
        resources.metrics.queue_ready.set(state["ready"])
        resources.metrics.queue_oldest.set((state["oldest"] or nothing).total_seconds())
        # Where no scheduler is, none has ticked for ever: an alert on an old tick must hear of it.
        age = state["tick_age"]
        resources.metrics.tick_age.set(math.inf if age is None else age.total_seconds())
        resources.metrics.tick_late_after.set((state["tick_late_after"] or nothing).total_seconds())
        resources.metrics.tasks_set_aside.set(state["set_aside"])
        for row in breakers:
            resources.metrics.breaker_open.labels(row["tool"]).set(OPEN[row["state"]])
        for kind, count in waiting.items():
            resources.metrics.waits.labels(kind).set(count)
    return Response(resources.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _gate_works(resources: Resources) -> bool:
    """The patterns here, and the remote gate where one is asked: without either, nothing may pass."""
    try:
        here = reflex.judge(CANARY, reflex.DEFAULT_POLICY).action == "block"
    except GateUnavailable:
        return False
    return here and (resources.gate is None or await resources.gate.works())


def _now() -> str:
    return instant(datetime.now(UTC))


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(body), status, headers, "application/json")


def _open(
    path: str, handler: OpenHandler, summary: str, answers: dict[int, str | None], media: str
) -> Operation:
    return Operation("GET", path, handler, "health", summary, answers, scope=None, media=media)


_JSON = "application/json"
OPERATIONS = (
    _open("/health", alive, "Is the process alive?", {200: "Health"}, _JSON),
    _open("/health/live", alive, "Is the process alive?", {200: "Health"}, _JSON),
    _open("/ready", ready, "Can it do its work?", {200: "Ready", 503: "Ready"}, _JSON),
    _open("/health/ready", ready, "Can it do its work?", {200: "Ready", 503: "Ready"}, _JSON),
    _open("/metrics", metrics, "Metrics for Prometheus", {200: "Text"}, "text/plain"),
)
