"""Promises (b) and (d): at least once executed, once settled, and a checkpointed step is not called again."""

from __future__ import annotations

import signal
from datetime import timedelta

from engine import db
from tests.factories import make_task, one, queue, rows, step, until
from tests.processes import Crew

EFFECT = "INSERT INTO public.effect (key, run_id) VALUES (%s, %s::uuid) RETURNING key"
STEPS = [
    step("write", "sql.execute", with_={"sql": EFFECT, "params": ["${run.id}:write", "${run.id}"]}),
    step(
        "linger",
        "sql.query",
        with_={"sql": "SELECT pg_sleep(0.1), pg_sleep((SELECT pause FROM public.pace))::text"},
    ),
    step("last", "core.echo", with_={"wrote": "${steps.write.rows[0].key}"}),
]


async def prepare_effects(conn: db.Connection, pause: float) -> None:
    """A table for side effects without a key that could hide a double one, and how long the second step takes."""
    await conn.execute(
        "CREATE TABLE public.effect (key text, run_id uuid, at timestamptz DEFAULT clock_timestamp())"
    )
    await conn.execute("CREATE TABLE public.pace AS SELECT %s::float AS pause", [pause])


async def test_a_run_survives_the_kill_of_its_worker(conn: db.Connection, crew: Crew) -> None:
    """The run of a worker killed half-way finishes once, on another worker, after its checkpoint."""
    await prepare_effects(conn, 60)
    run_id = await queue(conn, await make_task(conn, steps=STEPS, output="${steps.last.wrote}"))
    first = await crew.worker()
    await until(conn, "SELECT FROM duework.checkpoint")
    await first.kill()
    await conn.execute("UPDATE public.pace SET pause = 0")
    await crew.scheduler()
    second = await crew.worker()

    final = "SELECT status, attempt, output, worker FROM duework.attempts WHERE run_id = %s AND final"
    (ended,) = await until(conn, final, run_id)
    assert (ended["status"], ended["attempt"], ended["output"]) == ("succeeded", 2, f"{run_id}:write")
    assert ended["worker"] == second.events("worker.started")[0]["worker"]

    attempts = await rows(conn, "SELECT attempt, status, final, error FROM duework.attempts ORDER BY attempt")
    assert [(a["status"], a["final"]) for a in attempts] == [("expired", False), ("succeeded", True)]
    assert attempts[0]["error"]["code"] == "lease_expired"
    assert await one(conn, "SELECT count(*) FROM public.effect") == 1
    steps = await rows(conn, "SELECT step, attempt, status FROM duework.steps ORDER BY position")
    assert [(s["step"], s["attempt"]) for s in steps] == [("write", 1), ("linger", 2), ("last", 2)]
    assert await one(conn, "SELECT count(*) FROM duework.checkpoint") == 0
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0


async def test_many_runs_survive_many_kills(conn: db.Connection, crew: Crew) -> None:
    """Workers are killed one after the other under load: every run ends once and its effect happens once."""
    await prepare_effects(conn, 0.05)
    task = await make_task(conn, steps=STEPS)
    await crew.scheduler()
    expected = {await queue(conn, task) for _ in range(60)}
    for _ in range(3):
        victim = await crew.worker()
        before = await one(conn, "SELECT count(*) FROM public.effect")
        await until(conn, "SELECT FROM public.effect HAVING count(*) >= %s + 3", before)
        await victim.kill()
    await crew.worker()
    await until(conn, "SELECT WHERE NOT EXISTS (SELECT FROM duework.due_work)")

    ends = await rows(conn, "SELECT run_id, status FROM duework.task_run WHERE final")
    assert len(ends) == len(expected)
    assert {row["run_id"] for row in ends if row["status"] == "succeeded"} == expected
    twice = await rows(conn, "SELECT key, count(*) AS n FROM public.effect GROUP BY key HAVING count(*) > 1")
    interrupted = await rows(conn, "SELECT run_id FROM duework.task_run WHERE status = 'expired'")
    suspects = {f"{row['run_id']}:write" for row in interrupted}
    # Between a side effect and its checkpoint a kill can fall: at least once, with the key to tell by.
    assert {row["key"] for row in twice} <= suspects
    assert interrupted, "no kill hit a run: the test has shown nothing"


async def test_a_run_that_kills_its_workers_is_given_up(conn: db.Connection, crew: Crew) -> None:
    """Poison work is dead-lettered after its attempts and the crashes forgiven; its finished steps stay."""
    await prepare_effects(conn, 60)
    run_id = await queue(conn, await make_task(conn, steps=STEPS))
    await crew.scheduler()
    for attempt in (1, 2, 3):
        victim = await crew.worker()
        held = "SELECT FROM duework.due_work WHERE attempt = %s AND locked_until > now()"
        await until(conn, held, attempt)
        await until(conn, "SELECT FROM duework.checkpoint")
        await victim.kill()
        await until(conn, "SELECT FROM duework.task_run WHERE attempt = %s", attempt)
    assert await one(conn, "SELECT status FROM duework.runs WHERE run_id = %s", run_id) == "dead"
    assert await one(conn, "SELECT count(*) FROM public.effect") == 1
    assert [s["step"] for s in await rows(conn, "SELECT step FROM duework.steps")] == ["write"]
    assert await one(conn, "SELECT count(*) FROM duework.checkpoint") == 0


async def test_a_drain_goes_on_after_the_checkpoint(conn: db.Connection, crew: Crew) -> None:
    """What a drained worker gives back resumes after its checkpoint, although no attempt was used up."""
    await prepare_effects(conn, 60)
    run_id = await queue(conn, await make_task(conn, steps=STEPS))
    first = await crew.worker(drain_timeout=timedelta(milliseconds=100))
    await until(conn, "SELECT FROM duework.checkpoint")
    first.signal(signal.SIGTERM)
    assert await first.ended() == 0
    await conn.execute("UPDATE public.pace SET pause = 0")
    await crew.worker()
    (ended,) = await until(conn, "SELECT status, attempt FROM duework.attempts WHERE run_id = %s", run_id)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 1)
    assert await one(conn, "SELECT count(*) FROM public.effect") == 1
