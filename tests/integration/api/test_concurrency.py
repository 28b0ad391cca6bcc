"""Concurrency keys over REST: what is refused at the door, and what a caller sees of a run that has to wait."""

from __future__ import annotations

from datetime import timedelta

import httpx2

from engine.db import Connection
from engine.store import leases
from tests.factories import lease_one, run_row
from tests.integration.api.clients import pipeline


async def test_a_key_that_comes_to_nothing_is_refused(api: httpx2.AsyncClient) -> None:
    """The request says 422 with the key's place; a schedule that could never have a key is not stored."""
    limited = pipeline("job", concurrency={"key": "${params.city}"})
    assert (await api.post("/tasks", json=limited)).status_code == 201
    for params in ({}, {"city": "x" * 501}):
        answer = await api.post("/tasks/job/run_now", json={"params": params})
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert (error["code"], error["pointer"]) == ("concurrency_key", "/concurrency/key")
    timed = pipeline("timed", schedule={"every": "1h"}, concurrency={"key": "${params.city}"})
    answer = await api.post("/tasks", json=timed)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "concurrency_key")


async def test_a_run_that_waits_is_shown_and_canceled(api: httpx2.AsyncClient, conn: Connection) -> None:
    """It is `waiting`, and ends at once when it is canceled."""
    task = await api.post("/tasks", json=pipeline("job", concurrency={"key": "one at a time"}))
    assert task.json()["concurrency_key"] == "one at a time"
    first, second = [(await api.post("/tasks/job/run_now")).json()["run_id"] for _ in range(2)]
    assert str((await lease_one(conn)).run_id) == first
    assert await leases.lease(conn, "w1", 1, timedelta(seconds=30)) == []
    assert (await api.get(f"/runs/{second}")).json()["status"] == "waiting"
    assert (await api.post(f"/runs/{second}/cancel")).status_code == 202
    assert (await api.get(f"/runs/{second}")).json()["status"] == "canceled"


async def test_a_run_without_a_key_is_retried(api: httpx2.AsyncClient, conn: Connection) -> None:
    """An event of which the key cannot be made runs under the task's own limit; so does its retry."""
    waits = {"schedule": {"event": {"topic": "order.paid"}}, "concurrency": {"key": "${event.payload.city}"}}
    assert (await api.post("/tasks", json=pipeline("job", **waits))).status_code == 201
    published = await api.post("/events", json={"topic": "order.paid", "payload": {}})
    assert published.status_code == 202
    lease = await lease_one(conn)
    assert lease.concurrency_key == "task:job"
    async with conn.transaction():
        await leases.settle(conn, [run_row(lease, "failed")], [])
    answer = await api.post(f"/runs/{lease.run_id}/retry")
    assert answer.status_code == 202, answer.text
    again = await lease_one(conn)
    assert (str(again.run_id), again.concurrency_key) == (answer.json()["run_id"], "task:job")
