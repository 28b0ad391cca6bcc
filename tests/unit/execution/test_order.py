"""What `needs` promise: side by side where they allow, never before, and an orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import LeaseLost, ToolRejected, ToolUnavailable
from engine.execution.course import PARALLEL
from engine.tools.calls import Call
from tests.factories import step
from tests.polling import others_run
from tests.stage import Stage, code

Answer = Callable[[], Coroutine[Any, Any, Any]]


def met(barrier: asyncio.Barrier, value: Any) -> Answer:
    """Answers once as many callers are there as the barrier counts."""

    async def answer() -> Any:
        await barrier.wait()
        return value

    return answer


async def test_steps_that_need_nothing_of_each_other_run_side_by_side() -> None:
    """Two steps after a common one are called together; what needs both sees both; records keep their order."""
    both = asyncio.Barrier(2)
    stage = Stage(answers={"left": met(both, 1), "right": met(both, 2)})
    outcome = await stage.run(
        step("end", "t.again", needs=["left", "right"], with_={"sum": "${[steps.left, steps.right]}"}),
        step("right", "t.once", needs=["begin"]),
        step("left", "t.once", needs=["begin"]),
        step("begin", "t.again"),
        timeout="30s",
    )
    assert outcome.status == "succeeded"
    assert stage.calls[-1][1] == {"sum": [1, 2]}
    assert [(one.step, one.position) for one in outcome.steps] == [
        ("begin", 0), ("right", 1), ("left", 2), ("end", 3)
    ]  # fmt: skip


async def test_without_needs_nothing_overlaps() -> None:
    """The document's order is the order, one by one."""
    under_way: list[str] = []

    async def alone(call: Call) -> Any:
        under_way.append(call.step)
        assert under_way == [call.step]
        await others_run(1)
        under_way.remove(call.step)

    names = ["c", "a", "b"]
    stage = Stage(answers=dict.fromkeys(names, alone))
    await stage.run(*(step(name, "t.again") for name in names))
    assert [name for name, _, _ in stage.calls] == names


async def test_a_bound_holds_for_steps_that_could_all_begin() -> None:
    """Of many that are ready at most PARALLEL are called at a time, and in the end all were."""
    under_way: set[str] = set()
    most = 0

    async def counted(call: Call) -> Any:
        nonlocal most
        under_way.add(call.step)
        most = max(most, len(under_way))
        await others_run(5)
        under_way.remove(call.step)

    names = [f"s{n}" for n in range(PARALLEL * 3)]
    stage = Stage(answers=dict.fromkeys(names, counted))
    outcome = await stage.run(*(step(name, "t.again", needs=[]) for name in names))
    assert (outcome.status, most, len(stage.calls)) == ("succeeded", PARALLEL, len(names))
    assert [one.step for one in outcome.steps] == names


async def test_a_failure_ends_what_has_not_begun_and_waits_for_what_has() -> None:
    """Fail fast: no step and no try begins any more; the effect of the one under way is recorded and kept."""
    failed = asyncio.Event()

    async def fails() -> Any:
        failed.set()
        raise ToolRejected("no")

    async def goes_on() -> Any:
        await failed.wait()
        await others_run(5)
        return {"done": True}

    async def would_try_again() -> Any:
        await failed.wait()
        await others_run(3)
        raise ToolUnavailable("not now")

    stage = Stage(answers={"bad": fails, "good": goes_on, "weak": would_try_again})
    again = {"max_attempts": 5, "delay": "1ms"}
    outcome = await stage.run(
        step("bad", "t.once", needs=[]),
        step("good", "t.once", needs=[]),
        step("weak", "t.once", needs=[], retry=again),
        step("next", "t.once", needs=["good"]),
        timeout="30s",
    )
    assert (outcome.status, code(outcome), (outcome.error or {})["step"]) == ("failed", "rejected", "bad")
    assert sorted(name for name, _, _ in stage.calls) == ["bad", "good", "weak"]
    assert [(one.step, one.status) for one in outcome.steps] == [
        ("bad", "failed"), ("good", "succeeded"), ("weak", "failed")
    ]  # fmt: skip
    assert [one.step for one in stage.kept] == ["good"]


async def test_a_need_that_was_skipped_or_excused_has_ended() -> None:
    """Its followers run: they see null, or the value that stands in, and the status."""
    stage = Stage(answers={"excused": ToolRejected("no"), "valued": ToolRejected("no")})
    needs = ["skipped", "excused", "valued"]
    seen = {name: f"${{[status.{name}, steps.{name}]}}" for name in needs}
    outcome = await stage.run(
        step("skipped", "t.again", needs=[], if_="`false`"),
        step("excused", "t.again", needs=[], on_error="continue"),
        step("valued", "t.again", needs=[], on_error={"value": {"n": "${error.code}"}}),
        step("after", "t.again", needs=needs, with_=seen),
    )
    assert outcome.status == "succeeded"
    assert stage.calls[-1][1] == {
        "skipped": ["skipped", None],
        "excused": ["failed", None],
        "valued": ["failed", {"n": "rejected"}],
    }


def held(cancelled: list[str], started: asyncio.Barrier) -> Callable[[Call], Coroutine[Any, Any, Any]]:
    """Never answers; notes that it was cancelled."""

    async def forever(call: Call) -> Any:
        try:
            await started.wait()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(call.step)
            raise

    return forever


async def test_a_lost_lease_stops_everything_under_way() -> None:
    """What is called on the side is cancelled before the attempt is given up."""
    cancelled: list[str] = []
    started = asyncio.Barrier(2)

    async def lost() -> Any:
        await started.wait()
        raise LeaseLost("gone")

    stage = Stage(answers={"a": held(cancelled, started), "b": lost})
    with pytest.raises(LeaseLost):
        await stage.run(step("a", "t.once", needs=[]), step("b", "t.once", needs=[], on_error="continue"))
    assert cancelled == ["a"]


@pytest.mark.parametrize("needs", [{"needs": []}, {}], ids=["side by side", "in order"])
async def test_a_cancellation_reaches_the_tools_and_leaves_rows(needs: dict[str, Any]) -> None:
    """Every call under way is cancelled and waited for; the rows say what became of each step that began."""
    cancelled: list[str] = []
    names = ["a", "b"] if needs else ["a"]
    started = asyncio.Barrier(len(names) + 1)
    stage = Stage(answers=dict.fromkeys(names, held(cancelled, started)))
    run = asyncio.create_task(
        stage.run(
            *(step(name, "t.once", with_={"n": name}, **needs) for name in names),
            step("z", "t.once", needs=names),
        )
    )
    await started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert sorted(cancelled) == names
    assert stage.attempt is not None
    stage.attempt.abandon("canceled", {"code": "canceled", "message": "stop it"})
    rows = [(one.step, one.status, one.input, one.tries) for one in stage.attempt.records]
    assert rows == [(name, "canceled", {"n": name}, 1) for name in names]


async def test_a_run_out_of_time_has_a_row_for_each_step_under_way() -> None:
    """`timed_out`, with the input that the gate let pass."""
    cancelled: list[str] = []
    stage = Stage(answers=dict.fromkeys("ab", held(cancelled, asyncio.Barrier(2))))
    outcome = await stage.run(
        *(step(name, "t.once", needs=[], with_={"n": 1}) for name in "ab"), timeout="100ms"
    )
    assert (outcome.status, sorted(cancelled)) == ("timed_out", ["a", "b"])
    assert [(one.step, one.status, one.input) for one in outcome.steps] == [
        ("a", "timed_out", {"n": 1}), ("b", "timed_out", {"n": 1})
    ]  # fmt: skip
    assert all((one.error or {})["code"] == "timeout" for one in outcome.steps)


@st.composite
def graphs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Steps of any shape: needs that point back, in a shuffled document; some fail, some are skipped."""
    size = draw(st.integers(1, 12))
    steps = []
    for number in range(size):
        needs = draw(
            st.lists(st.sampled_from([f"s{n}" for n in range(number)] or [""]), max_size=3, unique=True)
        )
        made = step(f"s{number}", "t.once", needs=[need for need in needs if need])
        fate = draw(st.sampled_from(["well", "well", "well", "skipped", "excused", "failed"]))
        made |= {"with": {"fate": fate}}
        if fate == "skipped":
            made["if"] = "`false`"
        if fate == "excused":
            made["on_error"] = "continue"
        steps.append(made)
    return draw(st.permutations(steps))


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_any_graph_is_followed(steps: list[dict[str, Any]]) -> None:
    """Whatever needs whatever: each step is called at most once, and only when all that it needs has ended."""
    ended: set[str] = set()
    by_id = {one["id"]: one for one in steps}
    doomed = False

    async def answer(call: Call) -> Any:
        one = by_id[call.step]
        skipped = {name for name, other in by_id.items() if other["with"]["fate"] == "skipped"}
        assert set(one["needs"]) <= ended | skipped
        await others_run(1)
        ended.add(call.step)
        if one["with"]["fate"] in ("excused", "failed"):
            nonlocal doomed
            doomed |= one["with"]["fate"] == "failed"
            raise ToolRejected("no")

    stage = Stage(answers=dict.fromkeys(by_id, answer))
    outcome = asyncio.run(stage.run(*steps))
    assert outcome.status == ("failed" if doomed else "succeeded")
    called = [name for name, _, _ in stage.calls]
    assert len(called) == len(set(called))
    positions = [one.position for one in outcome.steps]
    assert positions == sorted(positions)
    if not doomed:
        assert {one.step for one in outcome.steps} == by_id.keys()
