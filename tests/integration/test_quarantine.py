"""Quarantine: a release lets pass exactly what was named, the run goes on where it was, and a word is given once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from engine import db
from engine.db import Connection, Pool
from engine.errors import Conflict, NotFound, ToolUnavailable
from engine.pipeline import parse_definition
from engine.settings import Settings
from engine.store import runs, tasks
from scheduler.retention import maintain
from tests.factories import document, make_task, one, queue, rows, step
from tests.quarantine import (
    NOTE,
    OTHER,
    SSN,
    Bench,
    blocked,
    findings,
    history,
    refuse,
    release,
    status,
    stored,
)
from tests.stage import MAIL


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with db.pool(Settings(database_url=database_url), "test", size=3) as made:
        yield made


@pytest.fixture
async def bench(pool: Pool) -> Bench:
    return Bench(pool)


async def test_a_blocked_output_calls_its_tool_again_and_nothing_before_it(
    conn: Connection, bench: Bench
) -> None:
    """Earlier steps, checkpointed or not, are taken as they were; the tool is asked again under the same key."""
    bench.answers = {"b": NOTE, "a": {"n": 1}}
    steps = (
        step("z", "t.once"),
        step("a", "t.again"),
        step("b", "t.again"),
        step("c", with_={"n": "${steps.a.n}"}),
    )
    run_id = await blocked(conn, bench, *steps, output="${steps.a.n}")
    keys = [key for _, _, key in bench.calls]
    assert bench.called() == ["z", "a", "b"]
    (finding,) = await findings(conn, run_id)
    assert {name: finding[name] for name in ("step", "item", "direction", "kind", "pointer", "masked")} == {
        "step": "b", "item": None, "direction": "output", "kind": "ssn", "pointer": "/body/note", "masked": "2•••1",
    }  # fmt: skip
    assert SSN not in await stored(conn)

    assert await release(conn, run_id) == [finding]
    assert await status(conn, run_id) == "queued"
    assert (await bench.work(conn)).status == "succeeded"
    assert bench.calls[0][2] == keys[2] == f"{run_id}:b"
    assert bench.called() == ["b", "c"]
    assert await history(conn, run_id) == [
        ("z", None, 1, "succeeded"), ("a", None, 1, "succeeded"), ("b", None, 1, "blocked"),
        ("b", None, 2, "succeeded"), ("c", None, 2, "succeeded"),
    ]  # fmt: skip
    attempts = await rows(conn, "SELECT attempt, status, final FROM duework.attempts ORDER BY attempt")
    assert [tuple(row.values()) for row in attempts] == [(1, "blocked", False), (2, "succeeded", True)]
    found = await runs.get(conn, run_id)
    assert (found["output"], [each["status"] for each in found["quarantine"]]) == (1, ["released"])
    assert await one(conn, "SELECT count(*) FROM duework.checkpoint") == 0


async def test_a_released_input_is_for_the_tool_alone(conn: Connection, bench: Bench) -> None:
    """The tool is given the value; history keeps its mark, as it keeps those of secrets."""
    bench.answers = {"b": "done"}
    run_id = await blocked(
        conn,
        bench,
        step("a", "t.again"),
        step("b", "t.once", with_={"to": "${params.to}"}),
        params={"to": SSN},
    )
    assert bench.called() == ["a"]
    await release(conn, run_id)
    await bench.work(conn)
    assert bench.calls == [("b", {"to": SSN}, f"{run_id}:b")]
    assert await status(conn, run_id) == "succeeded"
    assert await one(conn, "SELECT input FROM duework.step_run WHERE step = 'b' AND attempt = 2") == {
        "to": "[SSN]"
    }
    assert SSN not in await stored(conn)


@pytest.mark.parametrize(
    "answer",
    [
        {"body": {"note": f"call {OTHER} back"}},
        {"body": {"other": f"call {SSN} back"}},
        {"body": {"note": f"call {SSN} back", "also": SSN}},
        {"body": {"note": f"call {SSN} or {OTHER}"}},
        {"body": {"note": [f"call {SSN} back"]}},
        {"body": {"note": f"write to {MAIL}"}},
        {SSN: {"note": 1}},
    ],
    ids=["value", "place", "second place", "second value", "deeper", "kind", "key"],
)  # fmt: skip
async def test_nothing_else_passes(conn: Connection, bench: Bench, answer: Any) -> None:
    """What the tool answers the second time is judged anew: any other value or place blocks the run again."""
    bench.answers = {"a": NOTE}
    run_id = await blocked(conn, bench)
    await release(conn, run_id)
    bench.answers = {"a": answer}
    assert (await bench.work(conn)).status == "blocked"
    assert not await released(conn, run_id) & {finding["digest"] for finding in await findings(conn, run_id)}
    assert await one(conn, "SELECT array_agg(status ORDER BY attempt) FROM duework.quarantine") == [
        "released",
        "held",
    ]
    assert OTHER not in await stored(conn)


async def released(conn: Connection, run_id: UUID) -> set[str]:
    """The digests that were let pass in a run."""
    found = await rows(conn, "SELECT released FROM duework.quarantine WHERE run_id = %s", run_id)
    return {digest for row in found for digest in row["released"] or ()}


async def test_the_same_value_elsewhere_blocks(conn: Connection, bench: Bench) -> None:
    """In another run of the same task, in another step, and in the other direction of the same step."""
    bench.answers = {"a": NOTE}
    first = await blocked(conn, bench)
    task = await tasks.get(conn, "job")
    second = await queue(conn, task)
    await bench.work(conn)
    digests = [finding["digest"] for run_id in (first, second) for finding in await findings(conn, run_id)]
    assert len(set(digests)) == 2, "a digest says nothing about another run"
    await release(conn, first)
    assert (await bench.work(conn)).status == "succeeded"
    assert await status(conn, second) == "blocked"
    with pytest.raises(Conflict, match="is not held for"):
        await release(conn, second, digests=digests[:1])

    bench.answers = {"a": NOTE, "b": NOTE}
    third = await blocked(conn, bench, step("a", "t.once"), step("b", "t.once"), name="both")
    await release(conn, third)
    assert (await bench.work(conn)).status == "blocked"
    assert [finding["step"] for finding in await findings(conn, third)] == ["b"]


async def test_releases_add_up(conn: Connection, bench: Bench) -> None:
    """What was released of the input still passes when the output of the same step has to be released, too."""
    bench.answers = {"a": NOTE}
    run_id = await blocked(conn, bench, step("a", "t.once", with_={"to": SSN}))
    for direction in ("input", "output"):
        (finding,) = await findings(conn, run_id)
        assert finding["direction"] == direction
        await release(conn, run_id)
        await bench.work(conn)
    assert await status(conn, run_id) == "succeeded"
    assert bench.called() == ["a", "a"]
    assert await one(conn, "SELECT max(attempt) FROM duework.attempts") == 3


async def test_one_of_two_findings(conn: Connection, bench: Bench) -> None:
    """Only what was named passes; the rest blocks the run again."""
    bench.answers = {"a": {"x": SSN, "y": OTHER}}
    run_id = await blocked(conn, bench)
    held = await findings(conn, run_id)
    assert [finding["pointer"] for finding in held] == ["/x", "/y"]
    assert await release(conn, run_id, digests=[held[1]["digest"]]) == held[1:]
    await bench.work(conn)
    assert [finding["pointer"] for finding in await findings(conn, run_id)] == ["/x"]


async def test_the_run_s_own_output(conn: Connection, bench: Bench) -> None:
    """No tool is called again for it; a step of the name `output` is another place."""
    bench.answers = {"output": {"first": SSN[:6], "rest": SSN[6:]}}
    text = {"first": "${join('', [steps.output.first, steps.output.rest])}"}
    run_id = await blocked(conn, bench, step("output", "t.once"), output=text)
    (finding,) = await findings(conn, run_id)
    assert (finding["step"], finding["direction"], finding["pointer"]) == (None, "output", "/first")
    bench.called()
    await release(conn, run_id)
    assert (await bench.work(conn)).output == {"first": SSN}
    assert bench.called() == []


async def test_items_of_a_list(conn: Connection, bench: Bench) -> None:
    """Those that are done stay done; each item is a place of its own."""
    bench.answers = {"each": lambda call: NOTE if call.item in (1, 3) else "fine"}
    steps = step("list", "t.again"), step("each", "t.again", foreach=[1, 2, 3, 4], with_={"n": "${item}"})
    run_id = await blocked(conn, bench, *steps, output="${length(steps.each)}")
    assert bench.called() == ["list", "each:0", "each:1"]
    for item, expected in ((1, ["each:1", "each:2", "each:3"]), (3, ["each:3"])):
        assert [finding["item"] for finding in await findings(conn, run_id)] == [item]
        await release(conn, run_id)
        settlement = await bench.work(conn)
        assert bench.called() == expected
    assert (settlement.status, settlement.output) == ("succeeded", 4)
    ended = [row for row in await history(conn, run_id) if row[3] == "succeeded"]
    assert [row[:2] for row in ended] == [
        ("list", None), ("each", 0), ("each", 1), ("each", 2), ("each", 3), ("each", None)]  # fmt: skip


async def test_a_released_list_is_stored_nowhere(conn: Connection, bench: Bench) -> None:
    """It is made anew from what the run has kept, in whatever lease; its items are places of their own."""
    bench.answers = {"each": "fine"}
    halves = SSN.rpartition("-")
    listed = {"a": "219-44", "b": halves[2]}
    steps = (
        step("list", "t.again", with_=listed),
        step(
            "each",
            "t.again",
            foreach="${[join('-', [steps.list.a, steps.list.b]), 'x']}",
            with_={"n": "${item}"},
        ),
    )
    run_id = await blocked(conn, bench, *steps)
    for number in (None, 0):
        assert [finding["item"] for finding in await findings(conn, run_id)] == [number]
        await release(conn, run_id)
        settlement = await bench.execute(conn)
        assert SSN not in await stored(conn)
        assert await bench.settle(settlement)
        assert SSN not in await stored(conn)
    assert settlement.status == "succeeded"
    assert bench.calls[-2][1] == {"n": SSN}


async def test_what_on_failure_holds_is_not_the_run_s(conn: Connection, bench: Bench) -> None:
    """A run is held for what has ended it; what is refused while its end is told is not released with it."""
    bench.answers = {"a": NOTE, "tell": NOTE}
    run_id = await queue(
        conn, await make_task(conn, steps=[step("a", "t.once")], on_failure=[step("tell", "t.once")])
    )
    assert (await bench.work(conn)).status == "blocked"
    assert [finding["step"] for finding in await findings(conn, run_id)] == ["a"]


async def test_steps_side_by_side(conn: Connection, bench: Bench) -> None:
    """Both findings are held, what had ended stays ended, what had failed beside them is tried again."""
    bench.answers = {"a": NOTE, "b": NOTE, "c": "fine", "d": ToolUnavailable("not now")}
    steps = [step(name, "t.once", needs=[]) for name in "abcd"]
    run_id = await blocked(conn, bench, *steps)
    assert [finding["step"] for finding in await findings(conn, run_id)] == ["a", "b"]
    assert bench.called() == ["a", "b", "c", "d"]
    bench.answers["d"] = "fine"
    await release(conn, run_id)
    assert (await bench.work(conn)).status == "succeeded"
    assert bench.called() == ["a", "b", "d"]


async def test_a_refusal_is_the_end(conn: Connection, bench: Bench) -> None:
    """What the run would have needed is forgotten, who and why is kept, and there is no second word."""
    bench.answers = {"a": NOTE}
    run_id = await blocked(conn, bench)
    assert len(await refuse(conn, run_id)) == 1
    row = (
        await rows(
            conn, "SELECT decision, decided_by, reason, records, state, released FROM duework.held_run"
        )
    )[0]
    assert list(row.values()) == ["refused", "ada", "this stays here", None, None, None]
    for again in (release, refuse):
        with pytest.raises(Conflict, match="was refused by ada"):
            await again(conn, run_id)
    assert await status(conn, run_id) == "blocked"
    assert await one(conn, "SELECT count(*) FROM duework.due_work") == 0


async def test_only_what_is_held_can_be_released(conn: Connection, bench: Bench) -> None:
    """Not twice, not a run that is live, has succeeded, was blocked at the door, or is not there."""
    bench.answers = {"a": NOTE}
    run_id = await blocked(conn, bench)
    await release(conn, run_id)
    for _ in range(2):
        for word in (release, refuse):
            with pytest.raises(Conflict, match="was released by ada"):
                await word(conn, run_id)
        if await status(conn, run_id) == "queued":
            await bench.work(conn)
    live = await queue(conn, await tasks.get(conn, "job"))
    with pytest.raises(Conflict, match="is queued; only a blocked run"):
        await release(conn, live)
    await bench.work(conn)
    await conn.execute("DELETE FROM duework.held_run WHERE run_id = %s", [live])
    with pytest.raises(Conflict, match="held for nothing"):
        await release(conn, live)
    with pytest.raises(NotFound):
        await release(conn, UUID(int=7))


async def test_a_changed_task_is_another_one(conn: Connection, bench: Bench) -> None:
    """What was judged is what ran: a release does not go on with a definition that is the task's no more."""
    bench.answers = {"a": NOTE}
    run_id = await blocked(conn, bench)
    async with conn.transaction():
        task = await tasks.get(conn, "job", lock=True)
        changed = parse_definition(document(steps=[step("a", "t.again")]))
        await tasks.change(conn, task, changed, await db.clock(conn))
    with pytest.raises(Conflict, match="has changed since this run began \\(version 1, now 2\\)"):
        await release(conn, run_id)
    async with conn.transaction():
        await tasks.cancel(conn, "job", await db.clock(conn))
    with pytest.raises(Conflict, match="is canceled"):
        await release(conn, run_id)
    assert await status(conn, run_id) == "blocked"


async def test_history_and_what_is_held_go_together(conn: Connection, bench: Bench, pool: Pool) -> None:
    """While a run can be seen as blocked it can be released, however old it is; afterwards it is not there."""
    bench.answers = {"a": NOTE}
    run_id = await blocked(conn, bench)
    await conn.execute(b"UPDATE duework.held_run SET held_at = held_at - interval '1 year'")
    await maintain(pool, Settings(retention=timedelta(days=90)))
    assert len(await findings(conn, run_id)) == 1
    await conn.execute(b"DELETE FROM duework.task_run")
    with pytest.raises(NotFound, match="retention"):
        await release(conn, run_id)
    await maintain(pool, Settings(retention=timedelta(days=90)))
    assert await one(conn, "SELECT count(*) FROM duework.held_run") == 0
