"""Conditions with real processes: a scheduler, a worker, and a number in a table that somebody changes."""

from __future__ import annotations

from typing import Any

from engine.db import Connection
from tests.factories import make_task, one, queue, rows, step, until
from tests.processes import Crew

PROBE = {"uses": "sql.query", "with": {"sql": "SELECT n, pg_sleep(s)::text AS slept FROM public.gauge"}}
STEPS = [
    step("wait", "sql.query", with_={"sql": "SELECT pg_sleep((SELECT w FROM public.gauge))::text AS slept"}),
    step("tell", "sql.execute", with_={
        "sql": "INSERT INTO public.told VALUES (%s, %s)", "params": ["${run.id}", "${steps.probe.rows[0].n}"]}),
]  # fmt: skip
TOLD = "SELECT * FROM public.told"
ENDED = "SELECT * FROM duework.runs WHERE run_id = %s AND finished_at IS NOT NULL"


def condition(**members: Any) -> dict[str, Any]:
    """Looks every second whether the number is large."""
    return {"condition": {"every": "1s", "probe": PROBE, "when": "rows[0].n > 10"} | members}


async def gauge(conn: Connection) -> None:
    """The number, how long it takes to read it, and how long the pipeline takes afterwards."""
    await conn.execute("CREATE TABLE public.gauge AS SELECT 0 AS n, 0::float AS s, 0::float AS w")
    await conn.execute("CREATE TABLE public.told (run_id text, n integer)")


async def turn(conn: Connection, n: int) -> None:
    await conn.execute("UPDATE public.gauge SET n = %s", [n])


async def probed(conn: Connection, reason: str, instants: int = 1) -> None:
    """Wait until that many more instants were skipped for this reason."""
    counted = "SELECT coalesce(sum(count), 0) AS n FROM duework.occurrence WHERE reason = %s"
    before = await one(conn, counted, reason)
    await until(conn, counted + " HAVING sum(count) >= %s", reason, before + instants)


async def test_the_pipeline_follows_each_turn_to_true(conn: Connection, crew: Crew) -> None:
    """Quiet while nothing happens, one run when it does, and another only after it was over."""
    await gauge(conn)
    await make_task(conn, steps=STEPS, schedule=condition(), output="${steps.probe.rows[0].n}")
    await crew.scheduler()
    worker = await crew.worker()
    await probed(conn, "the condition was false", 2)
    assert await rows(conn, TOLD) == []
    await turn(conn, 11)
    await until(conn, TOLD)
    await probed(conn, "the condition was still true", 2)
    await turn(conn, 5)
    await probed(conn, "the condition was false")
    await turn(conn, 12)
    await until(conn, "SELECT FROM public.told HAVING count(*) = 2")
    await probed(conn, "the condition was still true")
    assert [row["n"] for row in await rows(conn, TOLD)] == [11, 12]

    ended = await rows(conn, "SELECT * FROM duework.runs WHERE finished_at IS NOT NULL ORDER BY run_id")
    assert [(run["status"], run["trigger"], run["output"]) for run in ended] == [
        ("succeeded", "condition", 11),
        ("succeeded", "condition", 12),
    ]
    steps = "SELECT step, position, tool, output FROM duework.step_run WHERE run_id = %s ORDER BY position"
    found = await rows(conn, steps, ended[0]["run_id"])
    assert [(each["step"], each["position"]) for each in found] == [("probe", 0), ("wait", 1), ("tell", 2)]
    assert found[0]["output"]["rows"][0]["n"] == 11
    ran = await rows(conn, "SELECT run_id FROM duework.occurrences WHERE disposition = 'ran'")
    assert {row["run_id"] for row in ran} == {run["run_id"] for run in ended}
    assert await one(conn, "SELECT count(*) FROM duework.checkpoint") == 0
    assert not worker.events("lease.lost")
    decided = {event["decision"] for event in worker.events("condition.decided")}
    assert decided == {"false", "still_true", "fired"}


async def test_a_worker_killed_after_the_turn_costs_nothing(conn: Connection, crew: Crew) -> None:
    """The turn is noted before the pipeline begins: the next attempt goes on from there and asks nobody again."""
    await gauge(conn)
    await conn.execute("UPDATE public.gauge SET n = 11, w = 60")
    await make_task(conn, steps=STEPS, schedule=condition())
    await crew.scheduler()
    victim = await crew.worker()
    await until(conn, "SELECT FROM duework.checkpoint WHERE step = 'probe'")
    await victim.kill()
    assert await rows(conn, TOLD) == [], "it was killed between the decision and what follows"
    await conn.execute("UPDATE public.gauge SET n = 3, w = 0")
    await crew.worker()
    (run,) = await until(conn, "SELECT * FROM duework.runs WHERE status = 'succeeded'")
    await probed(conn, "the condition was false")
    assert (run["trigger"], run["attempt"]) == ("condition", 2)
    assert await rows(conn, TOLD) == [{"run_id": str(run["run_id"]), "n": 11}]
    steps = "SELECT step, attempt FROM duework.steps WHERE run_id = %s ORDER BY position"
    found = await rows(conn, steps, run["run_id"])
    assert [(each["step"], each["attempt"]) for each in found] == [("probe", 1), ("wait", 2), ("tell", 2)]
    assert await one(conn, "SELECT count(*) FROM duework.runs WHERE status = 'succeeded'") == 1


async def test_a_worker_killed_while_it_asks_loses_no_turn(conn: Connection, crew: Crew) -> None:
    """A probe that nobody heard the answer of has decided nothing: a later one does, once."""
    await gauge(conn)
    await conn.execute("UPDATE public.gauge SET n = 11, s = 60")
    await make_task(conn, steps=STEPS, schedule=condition())
    await crew.scheduler()
    victim = await crew.worker()
    await until(conn, "SELECT FROM duework.due_work WHERE locked_by IS NOT NULL HAVING count(*) >= 2")
    await victim.kill()
    await conn.execute("UPDATE public.gauge SET s = 0")
    await crew.worker()
    await until(conn, TOLD)
    await until(conn, "SELECT FROM duework.attempts WHERE status = 'expired'")
    await probed(conn, "the condition was still true", 2)
    assert len(await rows(conn, TOLD)) == 1
    assert await one(conn, "SELECT count(*) FROM duework.runs WHERE status = 'succeeded'") == 1


async def test_probes_that_overlap_fire_once_per_turn(conn: Connection, crew: Crew) -> None:
    """Each takes longer than the interval, and two workers make them: still one run for each turn."""
    await gauge(conn)
    await conn.execute("UPDATE public.gauge SET s = 2.5")
    await make_task(conn, steps=STEPS, schedule=condition())
    await crew.scheduler()
    workers = [await crew.worker(), await crew.worker()]
    for turns in (1, 2):
        await turn(conn, 10 + turns)
        await until(conn, "SELECT FROM public.told HAVING count(*) = %s", turns)
        await probed(conn, "the condition was still true", 3)
        await turn(conn, 0)
        await probed(conn, "the condition was false", 3)
    assert [row["n"] for row in await rows(conn, TOLD)] == [11, 12]
    assert all(worker.events("condition.decided") for worker in workers)


async def test_a_probe_that_fails_is_a_run_that_failed(conn: Connection, crew: Crew) -> None:
    """It is in history with its step, by the task's own retry policy, and the last answer stands."""
    await gauge(conn)
    await make_task(
        conn,
        steps=STEPS,
        schedule=condition(),
        retry={"max_attempts": 2, "delay": "10ms", "on": ["rejected"]},
    )
    await crew.scheduler()
    await crew.worker()
    await probed(conn, "the condition was false")
    await conn.execute("ALTER TABLE public.gauge RENAME COLUMN n TO m")
    (run,) = await until(conn, "SELECT * FROM duework.runs WHERE status = 'failed' LIMIT 1")
    assert (run["trigger"], run["error"]["step"]) == ("condition", "probe")
    (first,) = await rows(
        conn,
        "SELECT step, status FROM duework.steps WHERE run_id = %s AND attempt = %s",
        run["run_id"],
        run["attempt"],
    )
    assert first == {"step": "probe", "status": "failed"}
    assert await one(conn, "SELECT condition_met FROM duework.task") is False
    await conn.execute("ALTER TABLE public.gauge RENAME COLUMN m TO n")
    await turn(conn, 11)
    await until(conn, TOLD)


async def test_a_run_that_was_asked_for_runs_whatever_the_probe_says(conn: Connection, crew: Crew) -> None:
    """Run-now makes the probe too, so that the pipeline finds its answer, and changes nothing of what is known."""
    await gauge(conn)
    task = await make_task(conn, steps=STEPS, schedule=condition())
    run_id = await queue(conn, task)
    await crew.worker()
    (run,) = await until(conn, ENDED, run_id)
    assert (run["status"], run["trigger"]) == ("succeeded", "run_now")
    assert await rows(conn, TOLD) == [{"run_id": str(run_id), "n": 0}]
    assert await rows(conn, "SELECT condition_met FROM duework.task") == [{"condition_met": None}]
