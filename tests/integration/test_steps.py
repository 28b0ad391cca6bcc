"""Steps as a real worker process carries them out: lists, graphs, waits of several, and what is left in the tables."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from engine.db import Connection
from engine.store import leases
from tests.factories import lease_one, make_task, one, queue, rows, step, until
from tests.processes import Crew

NAP = {"seconds": 1.2}
QUICK = {"max_attempts": 2, "delay": "20ms", "backoff": "fixed"}
TICKETS = (
    "INSERT INTO public.ticket (key) VALUES (%s) RETURNING (SELECT count(*) FROM public.ticket) AS before"
)
PIPELINES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "naps": (
        [
            step("each", "core.sleep", foreach=[1.2, 1.4, 1.6], max_parallel=3, with_={"seconds": "${item}"}),
            step("after", with_={"slept": "${steps.each[*].slept_seconds}"}),
        ],
        {"output": "${steps.after.slept}"},
    ),
    "beside": (
        [
            step("nap", "core.sleep", needs=[], with_=NAP),
            step("ticket", "sql.execute", needs=[], with_={"sql": TICKETS, "params": ["${run.id}"]}),
            step("flaky", "core.fail", needs=["ticket"], if_="run.attempt == 1", with_={"retryable": True}),
            step("end", needs=["nap", "flaky"], with_={"n": "${steps.nap.slept_seconds}"}),
        ],
        {"retry": QUICK, "output": "${steps.end.n}"},
    ),
    "items": (
        [
            step(
                "each",
                "core.transform",
                foreach=["1", "{", "3", "["],
                on_error={"value": "bad ${item}"},
                with_={"input": "${item}", "expression": "from_json(@)"},
            )
        ],
        {"output": "${steps.each[*].result || steps.each}"},
    ),
    "item-fails": ([step("each", "core.fail", foreach=[1, 2, 3], with_={"message": "not ${item}"})], {}),
    "spent": (
        [step(name, with_={"usage": {"tokens": 60}}) for name in ("a", "b", "c")],
        {
            "budget": {"max_tokens": 100},
            "retry": QUICK,
            "on_failure": [step("tell", with_={"c": "${error.code}"})],
        },
    ),
    "out-of-time": (
        [step("nap", "core.sleep", with_={"seconds": 3600})],
        {"timeout": "1500ms", "on_failure": [step("tell", "core.sleep", with_=NAP)]},
    ),
}


async def steps_of(conn: Connection, run_id: UUID) -> list[tuple[Any, ...]]:
    """Attempt, step, item, status and tries of a run's rows, in their order."""
    found = await rows(
        conn,
        "SELECT attempt, step, item, status, tries FROM duework.steps WHERE run_id = %s"
        " ORDER BY attempt, position, item NULLS FIRST",
        run_id,
    )
    return [tuple(row.values()) for row in found]


async def test_steps_of_every_kind(conn: Connection, crew: Crew) -> None:
    """Lists whose items wait, a graph that is tried again while a step waits, a budget, a run's time over its waits."""
    await conn.execute("CREATE TABLE public.ticket (key text)")
    ids = {
        name: await queue(conn, await make_task(conn, name, steps, **members))
        for name, (steps, members) in PIPELINES.items()
    }
    await crew.worker()
    await until(conn, "SELECT FROM duework.task_run WHERE final HAVING count(*) = %s", len(ids))
    ended = {run["task"]: run for run in await rows(conn, "SELECT * FROM duework.runs")}
    found = {n: (r["status"], r["attempt"], (r["error"] or {}).get("code")) for n, r in ended.items()}
    assert found == {
        "naps": ("succeeded", 1, None),
        "beside": ("succeeded", 2, None),
        "items": ("succeeded", 1, None),
        "item-fails": ("failed", 1, "rejected"),
        "spent": ("failed", 1, "budget_exceeded"),
        "out-of-time": ("timed_out", 1, "timeout"),
    }
    steps = {name: await steps_of(conn, run_id) for name, run_id in ids.items()}

    assert ended["naps"]["output"] == [1.2, 1.4, 1.6]
    assert ended["naps"]["duration_ms"] >= 1600, "it began once, and its items waited side by side"
    assert steps["naps"][:4] == [
        (1, "each", None, "succeeded", 3), *((1, "each", n, "succeeded", 1) for n in range(3))
    ]  # fmt: skip

    assert ended["beside"]["output"] == 1.2
    assert await one(conn, "SELECT count(*) FROM public.ticket") == 1
    assert [row[:2] + row[3:4] for row in steps["beside"]] == [
        (1, "ticket", "succeeded"), (1, "flaky", "failed"),
        (2, "nap", "succeeded"), (2, "flaky", "skipped"), (2, "end", "succeeded"),
    ]  # fmt: skip

    assert [row[2:4] for row in steps["items"]] == [
        (None, "failed"), (0, "succeeded"), (1, "failed"), (2, "succeeded"), (3, "failed")
    ]  # fmt: skip
    assert "item 0: not 1" in ended["item-fails"]["error"]["message"]
    assert [row[1:4] for row in steps["spent"]] == [
        ("a", None, "succeeded"), ("b", None, "succeeded"), ("c", None, "failed"), ("tell", None, "succeeded")
    ]  # fmt: skip
    assert [row[1:4] for row in steps["out-of-time"]] == [
        ("nap", None, "timed_out"),
        ("tell", None, "succeeded"),
    ]
    assert await one(conn, "SELECT count(*) FROM duework.checkpoint") == 0
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0


async def test_a_run_given_up_still_has_its_on_failure_steps(conn: Connection, crew: Crew) -> None:
    """After the last lease that it may lose there is one more, for on_failure alone, and none after that."""
    members: dict[str, Any] = {
        "on_failure": [step("tell", with_={"was": "${error.code}"})],
        "pause_after_failures": 1,
    }
    told, lost = [await queue(conn, await make_task(conn, name, **members)) for name in ("told", "lost")]
    for attempt in (1, 2, 3):
        held = [await lease_one(conn, seconds=0) for _ in range(2)]
        assert {lease.attempt for lease in held} == {attempt}
        reaped = await leases.reap(conn)
        assert [row["final"] for row in reaped] == [False, False]
    state = await one(conn, "SELECT DISTINCT state FROM duework.due_work")
    assert state["failure"]["status"] == "expired"
    assert state["failure"]["error"]["code"] == "lease_expired"
    await conn.execute("UPDATE duework.due_work SET priority = 1 WHERE id = %s", [lost])
    await lease_one(conn, seconds=0)
    (reaped_again,) = await leases.reap(conn)
    assert (reaped_again["run_id"], reaped_again["final"]) == (lost, True), "a second crash is the end of it"
    await crew.worker()
    await until(conn, "SELECT FROM duework.task WHERE name = 'told' AND status = 'paused'")
    runs = await rows(conn, "SELECT run_id, status, attempt, error ->> 'code' AS code FROM duework.runs")
    assert {row["run_id"]: (row["status"], row["attempt"], row["code"]) for row in runs} == dict.fromkeys(
        (told, lost), ("dead", 4, "lease_expired")
    )
    (row,) = await rows(conn, "SELECT run_id, step, input FROM duework.steps")
    assert (row["run_id"], row["step"], row["input"]) == (told, "tell", {"was": "lease_expired"})


async def test_a_list_under_way_can_be_seen_and_is_canceled_with_its_run(
    conn: Connection, crew: Crew
) -> None:
    """The live view shows the list as running; the history of a run that is canceled meanwhile does not."""
    naps = step("each", "core.sleep", foreach=["${params.n}", 60], with_={"seconds": "${item}"})
    run_id = await queue(conn, await make_task(conn, steps=[naps]), params={"n": 0})
    await crew.worker()
    await until(conn, "SELECT FROM duework.runs WHERE status = 'waiting'")
    shown = await rows(
        conn, "SELECT item, status, input, finished_at IS NULL AS open FROM duework.steps ORDER BY item"
    )
    assert [tuple(row.values()) for row in shown] == [
        (0, "succeeded", {"seconds": 0}, False), (None, "running", [0, 60], True)
    ]  # fmt: skip
    assert await leases.cancel(conn, run_id, "enough") == "canceled"
    assert [row[2:4] for row in await steps_of(conn, run_id)] == [
        (None, "canceled"),
        (0, "succeeded"),
        (1, "canceled"),
    ]
